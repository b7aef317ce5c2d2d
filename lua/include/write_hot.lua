-- write_hot(usage, s, id, u): write the state, and the use of an entry if one is given.
--@include usage
--@include hot_state
local function write_hot(usage, s, id, u)
  local packed = struct.pack(HOT, s.sliding, s.tick, s.capacity, s.t, s.r, s.rate, s.asked, s.hits, s.misses, s.saved_ms,
    s.bound_bytes, s.bound_entries, s.event_cap, #s.partitions, s.partitions, #s.policy, s.policy, #s.events, s.events)
    .. s.cold
  if u then
    redis.call('HSET', usage, '*', packed, id, format_usage(u))
  else
    redis.call('HSET', usage, '*', packed)
  end
end
