"""The cache that finds the signature of a text, though its white space changed or it was cut short."""
