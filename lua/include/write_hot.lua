-- write_hot(usage, s, id, used, ...): write the state, and the usage records of entries, each behind its id.
--@include usage
--@include hot_state
local function write_hot(usage, s, ...)
  local packed = struct.pack(HOT, s.sliding, s.tick, s.capacity, s.t, s.r, s.rate, s.asked, s.hits, s.misses, s.saved_ms,
    s.bound_bytes, s.bound_entries, s.event_cap, #s.partitions, s.partitions, #s.policy, s.policy, #s.events, s.events)
  redis.call('HSET', usage, '*', packed .. s.cold, ...)
end
