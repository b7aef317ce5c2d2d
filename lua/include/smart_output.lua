-- `new`, which names the slots of smart_new for `smart_store`.
local new = {
  id = id, key = key, hash = hash, hash_id = hash_id, output = output, size = size, cost = cost, meta = meta,
  links = links, ttl_ms = ttl_ms, imported = imported, origin = '', grace_ms = 0,
}
