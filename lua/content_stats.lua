-- What the partition holds and has counted: {entries, field, value, ...}.
local state      = KEYS[1]  -- hash: shared config, clocks, counters
local score      = KEYS[2]  -- zset: entry id -> eviction priority
local partitions = ARGV[1]  -- int: how many partitions this client believes in

--@include stale
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local reply = redis.call('HGETALL', state)
table.insert(reply, 1, redis.call('ZCARD', score))
return reply
