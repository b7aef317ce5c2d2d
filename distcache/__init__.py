"""distcache: one shared, bounded cache for build outputs and LLM signatures, on Redis or Valkey."""
