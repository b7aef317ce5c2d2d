"""The cache for build outputs."""
