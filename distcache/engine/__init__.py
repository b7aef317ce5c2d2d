"""The servers that distcache runs itself."""
