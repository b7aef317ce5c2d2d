-- One step of reading everything learned. Returns {next cursor, {id and key, clock, successor, ...}, likeliest first, ...}.
local state      = KEYS[1]  -- hash: shared config
local learned    = KEYS[2]  -- zset: key id and key -> last observation
local successors = KEYS[3]  -- prefix of the sets of successors
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local cursor     = ARGV[2]  -- where to go on
local count      = ARGV[3]  -- int: how many to look at

--@include stale
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local step = redis.call('ZSCAN', learned, cursor, 'COUNT', count)
local reply = {step[1]}
for i = 1, #step[2], 2 do
  local set = successors .. string.sub(step[2][i], 1, 16)
  local row = {step[2][i], redis.call('ZSCORE', set, '\255') or '0'}
  for _, successor in ipairs(redis.call('ZREVRANGE', set, 0, -1)) do
    if successor ~= '\255' then row[#row + 1] = successor end
  end
  reply[#reply + 1] = row
end
return reply
