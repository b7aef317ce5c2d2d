-- One step of an iteration over the live entries. Returns {next cursor, key, key, ...}; cursor '0' ends it.
-- As with SCAN, an entry that is there all the time is returned at least once.
local state      = KEYS[1]  -- hash: shared config
local score      = KEYS[2]  -- zset: entry id -> eviction priority
local usage      = KEYS[3]  -- hash: entry id -> use, size, cost, deadline
local entries    = KEYS[4]  -- prefix of the entries' hashes
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local cursor     = ARGV[2]  -- where to go on
local count      = ARGV[3]  -- int: how many to look at

--@include clock
--@include stale
--@include usage
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local now = clock()
local step = redis.call('ZSCAN', score, cursor, 'COUNT', count)
local reply = {step[1]}
for i = 1, #step[2], 2 do
  local id = step[2][i]
  local key = redis.call('HGET', entries .. id, 'k')
  local used = key and redis.call('HGET', usage, id)
  local due = used and parse_usage(used).deadline or 0
  if used and (due == 0 or due > now) then reply[#reply + 1] = key end
end
return reply
