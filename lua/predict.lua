-- What came after a key: {field, value, ...}, as learn.lua writes them.
local state      = KEYS[1]  -- hash: shared config
local after      = KEYS[2]  -- hash: what came after the key
local partitions = ARGV[1]  -- int: how many partitions this client believes in

--@include stale
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
return redis.call('HGETALL', after)
