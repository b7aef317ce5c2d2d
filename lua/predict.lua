-- The keys that came after a key, likeliest first. Returns {clock, key, weight, key, weight, ...}.
local state      = KEYS[1]            -- hash: shared config
local successors = KEYS[2]            -- zset: next key -> aged count (log2); holds the clock
local set        = KEYS[3]            -- the same, or the zset of keys soon after
local partitions = ARGV[1]            -- int: how many partitions this client believes in
local count      = tonumber(ARGV[2])  -- int: how many

--@include stale
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local reply = {redis.call('ZSCORE', successors, '\255') or '0'}
local found = redis.call('ZREVRANGE', set, 0, count, 'WITHSCORES')
for i = 1, #found, 2 do
  if found[i] ~= '\255' and #reply < 2 * count then
    reply[#reply + 1] = found[i]
    reply[#reply + 1] = found[i + 1]
  end
end
return reply
