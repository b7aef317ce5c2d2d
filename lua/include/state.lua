-- read_state(key, partitions): the partition's config, clocks and counters; nil when this client does not know the
-- config as it is (flushed, or made anew with another number of partitions).
-- write_state(key, s): writes the clocks and counters back.
local function read_state(key, partitions)
  local v = redis.call('HMGET', key, 'partitions', 'bound_entries', 'bound_bytes', 'policy', 'events', 'ttl_ms',
    'sliding', 'versions', 'history', 'history_age_ms', 'tick', 'bytes', 'capacity', 't', 'r', 'rate', 'p1', 'asked',
    'hits', 'misses', 'writes', 'evictions', 'expirations', 'invalidations', 'saved_ms', 'corrupt', 'event_cap')
  if v[1] ~= partitions then return nil end
  for i = 6, 27 do v[i] = tonumber(v[i]) or 0 end
  return {
    partitions = tonumber(v[1]), bound_entries = tonumber(v[2]), bound_bytes = tonumber(v[3]), policy = v[4],
    events = v[5], ttl_ms = v[6], sliding = v[7], versions = v[8], history = v[9], history_age_ms = v[10],
    tick = v[11], bytes = v[12], capacity = v[13], t = v[14], r = v[15], rate = v[16], p1 = v[17], asked = v[18],
    hits = v[19], misses = v[20], writes = v[21], evictions = v[22], expirations = v[23], invalidations = v[24],
    saved_ms = v[25], corrupt = v[26], event_cap = v[27],
  }
end

local function write_state(key, s)
  redis.call('HSET', key, 'tick', s.tick, 'bytes', s.bytes, 'capacity', s.capacity, 't', s.t, 'r', s.r,
    'rate', s.rate, 'p1', s.p1, 'asked', s.asked, 'hits', s.hits, 'misses', s.misses, 'writes', s.writes,
    'evictions', s.evictions, 'expirations', s.expirations, 'invalidations', s.invalidations,
    'saved_ms', s.saved_ms, 'corrupt', s.corrupt)
end
