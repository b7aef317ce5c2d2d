-- One step of reading every live entry whole. Returns {next cursor, {usage, key, hash, written, metadata, output}, ...}.
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
  local used = redis.call('HGET', usage, id)
  local entry = redis.call('HMGET', entries .. id, 'k', 'h', 't', 'm', 'o')
  local due = used and parse_usage(used).deadline or 0
  if used and entry[1] and (due == 0 or due > now) then
    reply[#reply + 1] = {used, entry[1], entry[2], entry[3], entry[4], entry[5]}
  end
end
return reply
