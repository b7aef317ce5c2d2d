-- The shared config of the partition, for a client that may not write: {field, value, ...}.
local state = KEYS[1]  -- hash: shared config

return redis.call('HGETALL', state)
