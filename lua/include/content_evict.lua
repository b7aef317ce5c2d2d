-- content_evict(g, s, more_entries, more_bytes, limit): evict by score until that much more fits the bounds, at most
-- `limit` entries; true when it fits.
local function content_evict(g, s, more_entries, more_bytes, limit)
  local entries = redis.call('ZCARD', g.score)
  while entries > 0 and limit > 0 do
    local crowded = entries + more_entries > s.bound_entries
    if not crowded and s.bytes + more_bytes <= s.bound_bytes then break end
    s.capacity = crowded and s.bound_entries or entries
    local id = redis.call('ZRANGE', g.score, 0, 0)[1]
    local u = content_remove(g, s, id)
    s.evictions = s.evictions + 1
    if u then ghost_add(g.ghost, g.ghost_old, s, id, u) end
    entries = entries - 1
    limit = limit - 1
  end
  return entries == 0 or (entries + more_entries <= s.bound_entries and s.bytes + more_bytes <= s.bound_bytes)
end
