-- The shared config of the partition, for a client that may not write: {field, value, ...}.
local state = KEYS[1]  -- hash: shared config, clocks, counters

return redis.call('HGETALL', state)
