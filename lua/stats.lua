-- What a partition of either cache holds and has counted.
-- Returns {entries, keys with learned successors, relics, field, value, ...}.
local state      = KEYS[1]  -- hash: shared config, rare counters
local score      = KEYS[2]  -- zset: entry id -> eviction priority
local learned    = KEYS[3]  -- zset: key id and key -> about when it was last observed
local relics     = KEYS[4]  -- zset: removed entries whose edges are kept
local usage      = KEYS[5]  -- hash: the use of entries; and the state
local partitions = ARGV[1]  -- int: how many partitions this client believes in

--@include usage
--@include state
--@include stale
local s = read_state(usage, partitions)
if not s then return stale() end
local reply = redis.call('HGETALL', state)
for name, value in pairs(s) do
  reply[#reply + 1] = name
  reply[#reply + 1] = type(value) == 'number' and string.format('%.17g', value) or value
end
table.insert(reply, 1, redis.call('ZCARD', relics))
table.insert(reply, 1, redis.call('ZCARD', learned))
table.insert(reply, 1, redis.call('ZCARD', score))
return reply
