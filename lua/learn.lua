-- Record which keys came after which: the next one, and those soon after it. A weight is log2 of a count that halves
-- every 16 times that a next key is observed: as a score it is static, T + log2(1 + 2^(F - T)), with T the predecessor's
-- own clock, which a next key moves on. docs/decisions/0025-what-came-after-is-a-hash.md
-- Returns how many pairs were recorded.
local state      = KEYS[1]  -- hash: shared config
local learned    = KEYS[2]  -- zset: key id and key -> about when it was last observed
local after      = KEYS[3]  -- prefix of the hashes of what came after a key
local partitions = ARGV[1]  -- int: how many partitions this client believes in
-- A row: what followed a key. Its id, the key; how many of its fields are about next keys, how many there are, and their
-- places in the order of observation, a byte each; and the fields: 'n' (next) or 's' (soon after), and the key that did.
local rows, rows_at = ARGV, 2  -- list: id, key, places, fields, ...

--@include clock
--@include stale
local shape = redis.call('HMGET', state, 'partitions', 'bound_entries')
if shape[1] ~= partitions then return stale() end
--@include followed
local byte, log, struct_pack = string.byte, math.log, struct.pack
local STEP, SOME, KEPT, MOST, MONTH_MS = 1 / 16, 4 / 16, 32, 48, 2592000000
local LOG2 = log(2)

-- trim(name, t): of each kind, the lightest of too many go. What is damaged weighs nothing.
local function trim(name, t)
  local fields, counts = redis.call('HGETALL', name), {}
  for i, kind in ipairs({NEXT, SOON}) do
    local names = by_weight(fields, kind, t)
    counts[i] = #names
    if #names > MOST then
      for at = KEPT + 1, #names, 500 do redis.call('HDEL', name, unpack(names, at, math.min(at + 499, #names))) end
      counts[i] = KEPT
    end
  end
  redis.call('HSET', name, CLOCK, struct_pack(TOLD, t, counts[1], counts[2]))
end

-- First all is read, which shows what is damaged.
local writes, renewed, full, listed, observed, at = {}, {}, {}, {}, 0, rows_at
local _, us = clock()
while at <= #rows do
  local name, places, before = after .. rows[at], rows[at + 2], at + 2
  local next_fields, count = byte(places, 1, 2)
  local known = redis.call('HMGET', name, CLOCK, unpack(rows, before + 1, before + count))
  local began, nexts, soons = clock_of(known[1])
  for i = 1, count do
    local packed = known[i + 1]
    if packed then
      known[i + 1] = weight(packed, began) or false
    elseif i <= next_fields then nexts = nexts + 1
    else soons = soons + 1 end
  end

  local t = began
  for i = 3, #places do
    local place = byte(places, i)
    if place <= next_fields then t = t + STEP end
    local f = known[place + 1]
    known[place + 1] = f and t + log(1 + 2 ^ (f - t)) / LOG2 or t
  end
  observed = observed + #places - 2

  -- Larger from the start than by growing: most rows have four fields.
  local changes, last = {name, CLOCK, nil, nil, nil, nil, nil, nil, nil, nil, nil}, 3
  for i = 1, count do
    changes[last + 1], changes[last + 2] = rows[before + i], struct_pack(WEIGHT, known[i + 1])
    last = last + 2
  end
  if nexts > MOST or soons > MOST then full[name], nexts, soons = t, KEPT, KEPT end
  changes[3] = struct_pack(TOLD, t, nexts, soons)
  writes[#writes + 1] = changes
  -- The time to live starts anew, and the place in the list is that of now, with every fourth key that came next.
  if began == 0 or t - t % SOME ~= began - began % SOME then
    renewed[#renewed + 1] = name
    listed[#listed + 1], listed[#listed + 2] = us, rows[at] .. rows[at + 1]
  end
  at = before + count + 1
end

-- A hash is listed before it is there.
local added = #listed > 0 and redis.call('ZADD', learned, unpack(listed)) or 0
for _, changes in ipairs(writes) do redis.call('HSET', unpack(changes)) end
for name, t in pairs(full) do trim(name, t) end
for _, name in ipairs(renewed) do redis.call('PEXPIRE', name, MONTH_MS) end
local over = redis.call('ZCARD', learned) - 4 * tonumber(shape[2])
if over > 0 then
  -- There may be many more than that, if the bound was lowered.
  local oldest, gone = redis.call('ZPOPMIN', learned, math.min(over, added + 64)), {}
  for i = 1, #oldest, 2 do gone[#gone + 1] = after .. string.sub(oldest[i], 1, 16) end
  redis.call('UNLINK', unpack(gone))
end
return observed
