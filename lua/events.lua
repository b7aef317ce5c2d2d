-- The newest events, newest first: {{id, {field, value, ...}}, ...}.
local state      = KEYS[1]  -- hash: shared config
local events     = KEYS[2]  -- stream: what happened
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local count      = ARGV[2]  -- int: how many at most

--@include stale
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
return redis.call('XREVRANGE', events, '+', '-', 'COUNT', count)
