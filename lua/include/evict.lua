-- evict(g, s, more_entries, more_bytes, limit, u): evict until that much more fits the bounds; true when it fits. `u` is
-- the use of the entry to come, if one is. What was over the bounds before, because they were lowered, goes little by
-- little, `limit` entries a call; what is to come makes room for itself however many that takes.
local function evict(g, s, more_entries, more_bytes, limit, u)
  local incoming = u and u.mark == 'w' and 1 or 0
  local entries = redis.call('ZCARD', g.score)
  local most_entries, most_bytes = math.max(s.bound_entries, entries), math.max(s.bound_bytes, s.bytes)
  while entries > 0 do
    local crowded = entries + more_entries > s.bound_entries
    if not crowded and s.bytes + more_bytes <= s.bound_bytes then break end
    if limit <= 0 and entries + more_entries <= most_entries and s.bytes + more_bytes <= most_bytes then break end
    s.capacity = crowded and s.bound_entries or entries
    local id = policy_victim(g, s, incoming)
    local used = drop(g, s, id, crowded and 'LRU eviction' or 'LRU eviction (size limit)')
    s.evictions = s.evictions + 1
    if used then ghost_add(g, s, id, used) end
    entries = entries - 1
    limit = limit - 1
  end
  if s.policy == 'windowed' then window_settle(g, s, incoming) end
  return entries == 0 or (entries + more_entries <= s.bound_entries and s.bytes + more_bytes <= s.bound_bytes)
end
