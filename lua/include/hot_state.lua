-- read_hot(key, partitions), write_hot(key, s): what a read needs of the state, and what it changes. See `state` for
-- all of it: reading and writing everything would cost a get as much as the rest of it.
local function read_hot(key, partitions)
  local v = redis.call('HMGET', key, 'partitions', 'policy', 'events', 'event_cap', 'sliding', 'tick', 'capacity', 't',
    'r', 'rate', 'asked', 'hits', 'misses', 'saved_ms', 'bound_bytes',
    'bound_entries')
  if v[1] ~= partitions then return nil end
  return {
    policy = v[2], events = v[3], event_cap = v[4], sliding = tonumber(v[5]), tick = tonumber(v[6]),
    capacity = tonumber(v[7]), t = tonumber(v[8]), r = tonumber(v[9]), rate = tonumber(v[10]),
    asked = tonumber(v[11]), hits = tonumber(v[12]) or 0, misses = tonumber(v[13]) or 0,
    saved_ms = tonumber(v[14]) or 0, bound_bytes = tonumber(v[15]), bound_entries = tonumber(v[16]),
  }
end

local function write_hot(key, s)
  redis.call('HSET', key, 'tick', s.tick, 't', s.t, 'r', s.r, 'asked', s.asked, 'hits', s.hits, 'misses', s.misses,
    'saved_ms', s.saved_ms)
end
