-- Record which keys came after which: the next one, and those soon after it. A weight is log2 of a count that halves
-- every 16 observations of the predecessor: as a score it is static, T + log2(1 + 2^(F - T)), with T the predecessor's
-- own clock, which one next key moves on.
-- Returns how many pairs were recorded.
local state       = KEYS[1]  -- hash: shared config, clocks, counters
local learned     = KEYS[2]  -- zset: key id and key -> last observation
local successors  = KEYS[3]  -- prefix of the sets of next keys
local soon        = KEYS[4]  -- prefix of the sets of keys soon after
local partitions  = ARGV[1]  -- int: how many partitions this client believes in
local rows, rows_at = ARGV, 2  -- list: id of a key, the key, '1' next or '' soon after, the other key, ...

--@include clock
--@include stale
local shape = redis.call('HMGET', state, 'partitions', 'bound_entries')
if shape[1] ~= partitions then return stale() end
local _, us = clock()
local LIFE, KEPT, CLOCK = 16, 32, '\255'  -- no key contains the byte 255

-- add(set, t, key): one more of this key at the predecessor's time t; the least of too many goes.
local function add(set, t, key)
  local f = tonumber(redis.call('ZSCORE', set, key) or t - 2000)
  redis.call('ZADD', set, t + math.log(1 + 2 ^ (f - t)) / math.log(2), key)
  local kept = redis.call('ZSCORE', set, CLOCK) and KEPT + 1 or KEPT
  if redis.call('ZCARD', set) > kept then
    for _, least in ipairs(redis.call('ZRANGE', set, 0, 2)) do
      if least ~= CLOCK and least ~= key then
        redis.call('ZREM', set, least)
        break
      end
    end
  end
end

local clocks, keys = {}, {}
for i = rows_at, #rows, 4 do
  local id, key, is_next = rows[i], rows[i + 1], rows[i + 2]
  local t = clocks[id] or tonumber(redis.call('ZSCORE', successors .. id, CLOCK) or 0)
  if is_next == '1' then t = t + 1 / LIFE end
  clocks[id], keys[id] = t, key
  if is_next == '1' then
    redis.call('ZADD', successors .. id, t, CLOCK)
    add(successors .. id, t, rows[i + 3])
  elseif t > 0 then
    add(soon .. id, t, rows[i + 3])
  end
end
for id, key in pairs(keys) do
  if clocks[id] > 0 then
    redis.call('PEXPIRE', successors .. id, 2592000000)
    redis.call('PEXPIRE', soon .. id, 2592000000)
    redis.call('ZADD', learned, us, id .. key)
  end
end
local over = redis.call('ZCARD', learned) - 4 * tonumber(shape[2])
if over > 0 then
  for _, one in ipairs(redis.call('ZRANGE', learned, 0, over - 1)) do
    redis.call('UNLINK', successors .. string.sub(one, 1, 16), soon .. string.sub(one, 1, 16))
    redis.call('ZREM', learned, one)
  end
end
return (#rows - rows_at + 1) / 4
