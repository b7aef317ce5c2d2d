-- smart_remove(g, s, id): take an entry out of every index but the graph; its record stays. Returns its usage (nil if it
-- had none) and its key.
-- g names the keys; s is the state, which the caller writes back.
--@include keep_record
local function smart_remove(g, s, id)
  local text = redis.call('HGET', g.usage, id)
  local u = text and parse_usage(text)
  -- Another program may have put something else in the entry's place; it goes all the same.
  local entry = redis.pcall('HMGET', g.entries .. id, 'h', 't', 'w', 'm', 'k')
  if u then
    if #id == 16 then
      local record = format_record(u.cost, u.size, entry)
      keep_record(g, id, record, s.tick, s.history, s.history_age_ms, s.bound_entries, true)
    end
    s.bytes = s.bytes - u.size
    redis.call('HDEL', g.usage, id)
    if u.deadline > 0 then redis.call('ZREM', g.deadline, id) end
  end
  redis.call('ZREM', g.score, id)
  redis.call('UNLINK', g.entries .. id)
  if #id > 16 then redis.call('LREM', g.versions .. string.sub(id, 1, 16), 1, string.sub(id, 17)) end
  return u, entry[5] or nil
end

-- drop(g, s, id, details): the entry goes for good: out of the graph as well, and an event says so.
-- Returns its usage and its key.
local function drop(g, s, id, details)
  local u, key = smart_remove(g, s, id)
  leave(g, id, s.tick)
  emit(g.events, s, 'EVICT', key or '', details)
  return u, key
end

-- drop_key(g, s, id, details): the same for all versions of a key. Returns how many there were.
local function drop_key(g, s, id, details)
  local dropped = 0
  for _, older in ipairs(redis.call('LRANGE', g.versions .. id, 0, -1)) do
    drop(g, s, id .. older, details)
    dropped = dropped + 1
  end
  if redis.call('ZSCORE', g.score, id) or redis.call('EXISTS', g.entries .. id) == 1 then
    drop(g, s, id, details)
    dropped = dropped + 1
  end
  return dropped
end
