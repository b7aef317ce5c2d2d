"""`distcache demo`: both caches at work between processes, on the standard library of the running Python."""
