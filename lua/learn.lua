-- Record which keys came after which: the next one, and those soon after it. A weight is log2 of a count that halves
-- every 16 observations of the predecessor: as a score it is static, T + log2(1 + 2^(F - T)), with T the predecessor's
-- own clock, which one next key moves on.
-- Returns how many pairs were recorded.
local state       = KEYS[1]  -- hash: shared config
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

-- Each set is read once and written once, whatever the rows say of it: sets[name] has the scores of the keys concerned
-- (false for one that is not there), and those keys in `keys`. What nothing was learned from before has no sets to read.
local sets, names, known, listed = {}, {}, {}, {}
local function concern(name, key, id)
  local set = sets[name]
  if not set then
    set = {keys = {}, scores = {}, id = id}
    sets[name] = set
    names[#names + 1] = name
  end
  if set.scores[key] == nil then
    set.scores[key] = false
    set.keys[#set.keys + 1] = key
  end
end

for i = rows_at, #rows, 4 do
  local id, is_next = rows[i], rows[i + 2] == '1'
  concern(successors .. id, CLOCK, id)
  concern((is_next and successors or soon) .. id, rows[i + 3], id)
  if known[id] == nil then
    known[id] = false
    listed[#listed + 1] = id .. rows[i + 1]
  end
end
for at, last in ipairs(redis.call('ZMSCORE', learned, unpack(listed))) do
  known[string.sub(listed[at], 1, 16)] = last
end
for _, name in ipairs(names) do
  local set = sets[name]
  if known[set.id] then
    for at, points in ipairs(redis.call('ZMSCORE', name, unpack(set.keys))) do
      set.scores[set.keys[at]] = points and tonumber(points)
    end
  end
  set.clock = set.scores[CLOCK] or 0
end

local seen = {}
for i = rows_at, #rows, 4 do
  local id, key, is_next, other = rows[i], rows[i + 1], rows[i + 2] == '1', rows[i + 3]
  local after = sets[successors .. id]
  local t = after.scores[CLOCK] or 0
  after.began = after.began or after.clock
  if is_next then
    t = t + 1 / LIFE
    after.scores[CLOCK] = t
  end
  if t > 0 then
    local set = is_next and after or sets[soon .. id]
    local f = set.scores[other] or t - 2000
    set.scores[other] = t + math.log(1 + 2 ^ (f - t)) / math.log(2)
    set.newest, set.began, set.clock = other, after.began, t
    seen[id] = key
  end
end

-- trim(name, most, newest): the least of too many go.
local function trim(name, most, newest)
  local over = redis.call('ZCARD', name) - most
  if over <= 0 then return end
  for _, least in ipairs(redis.call('ZRANGE', name, 0, over + 1)) do
    if over > 0 and least ~= CLOCK and least ~= newest then
      redis.call('ZREM', name, least)
      over = over - 1
    end
  end
end

for _, name in ipairs(names) do
  local set = sets[name]
  if set.newest then
    local changes = {}
    for _, key in ipairs(set.keys) do
      if set.scores[key] then
        changes[#changes + 1] = set.scores[key]
        changes[#changes + 1] = key
      end
    end
    local added = redis.call('ZADD', name, unpack(changes))
    if added > 0 and (known[set.id] or added > KEPT) then
      trim(name, set.scores[CLOCK] and KEPT + 1 or KEPT, set.newest)
    end
    -- The time to live starts anew with what is new, and with every fourth observation at the latest.
    if added > 0 or math.floor(set.clock * LIFE / 4) ~= math.floor(set.began * LIFE / 4) then
      redis.call('PEXPIRE', name, 2592000000)
    end
  end
end
local news = {}
for id, key in pairs(seen) do
  news[#news + 1] = us
  news[#news + 1] = id .. key
end
local added = #news > 0 and redis.call('ZADD', learned, unpack(news)) or 0
local over = redis.call('ZCARD', learned) - 4 * tonumber(shape[2])
if over > 0 then
  -- There may be many more than that, if the bound was lowered.
  local oldest, gone = redis.call('ZPOPMIN', learned, math.min(over, added + 64)), {}
  for at = 1, #oldest, 2 do
    gone[at], gone[at + 1] = successors .. string.sub(oldest[at], 1, 16), soon .. string.sub(oldest[at], 1, 16)
  end
  redis.call('UNLINK', unpack(gone))
end
return (#rows - rows_at + 1) / 4
