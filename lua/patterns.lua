-- One step of reading everything learned. Returns {next cursor, id and key, {field, value, ...}, ...}.
local state      = KEYS[1]  -- hash: shared config
local learned    = KEYS[2]  -- zset: key id and key -> about when it was last observed
local after      = KEYS[3]  -- prefix of the hashes of what came after a key
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local cursor     = ARGV[2]  -- where to go on
local count      = ARGV[3]  -- int: how many to look at

--@include stale
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local step = redis.call('ZSCAN', learned, cursor, 'COUNT', count)
local reply = {step[1]}
for i = 1, #step[2], 2 do
  reply[#reply + 1] = step[2][i]
  reply[#reply + 1] = redis.call('HGETALL', after .. string.sub(step[2][i], 1, 16))
end
return reply
