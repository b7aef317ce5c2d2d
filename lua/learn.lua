-- Record which keys came after which. A successor's weight is log2 of a count that halves every 16 observations of
-- its predecessor: as a score it is static, T + log2(1 + 2^(F - T)), with T the predecessor's own clock.
-- Returns how many pairs were recorded.
local state       = KEYS[1]  -- hash: shared config, clocks, counters
local learned     = KEYS[2]  -- zset: key id and key -> last observation
local successors  = KEYS[3]  -- prefix of the sets of successors
local partitions  = ARGV[1]  -- int: how many partitions this client believes in
local triples, triples_at = ARGV, 2  -- list: id of a key, the key, the key that came next, ...

--@include clock
--@include stale
local shape = redis.call('HMGET', state, 'partitions', 'bound_entries')
if shape[1] ~= partitions then return stale() end
local _, us = clock()
local LIFE, KEPT, CLOCK = 16, 32, '\255'  -- no key contains the byte 255

local function observe(id, key, successor)
  local set = successors .. id
  local t = tonumber(redis.call('ZSCORE', set, CLOCK) or 0) + 1 / LIFE
  local f = tonumber(redis.call('ZSCORE', set, successor) or t - 2000)
  redis.call('ZADD', set, t, CLOCK, t + math.log(1 + 2 ^ (f - t)) / math.log(2), successor)
  if redis.call('ZCARD', set) > KEPT + 1 then
    for _, least in ipairs(redis.call('ZRANGE', set, 0, 2)) do
      if least ~= CLOCK and least ~= successor then
        redis.call('ZREM', set, least)
        break
      end
    end
  end
  redis.call('PEXPIRE', set, 2592000000)
  redis.call('ZADD', learned, us, id .. key)
end

for i = triples_at, #triples, 3 do observe(triples[i], triples[i + 1], triples[i + 2]) end
local over = redis.call('ZCARD', learned) - 4 * tonumber(shape[2])
if over > 0 then
  for _, one in ipairs(redis.call('ZRANGE', learned, 0, over - 1)) do
    redis.call('UNLINK', successors .. string.sub(one, 1, 16))
    redis.call('ZREM', learned, one)
  end
end
return (#triples - triples_at + 1) / 3
