-- What came after a key, likeliest first, and the clock. Returns {field, value, ...}, as learn.lua writes them.
local state      = KEYS[1]            -- hash: shared config
local after      = KEYS[2]            -- hash: what came after the key
local partitions = ARGV[1]            -- int: how many partitions this client believes in
local kind       = ARGV[2]            -- 'n': keys that came next, 's': soon after
local count      = tonumber(ARGV[3])  -- int: how many keys

--@include stale
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
--@include followed
local fields, values = redis.call('HGETALL', after), {}
for at = 1, #fields, 2 do values[fields[at]] = fields[at + 1] end
local names = by_weight(fields, kind, (clock_of(values[CLOCK])))
local reply = {CLOCK, values[CLOCK] or ''}
for i = 1, math.min(count, #names) do
  reply[#reply + 1] = names[i]
  reply[#reply + 1] = values[names[i]]
end
return reply
