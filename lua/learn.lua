-- Record which keys came after which: the next one, and those soon after it. A weight is log2 of a count that halves
-- every 16 observations of the predecessor: as a score it is static, T + log2(1 + 2^(F - T)), with T the predecessor's
-- own clock, which one next key moves on.
-- Returns how many pairs were recorded.
local state       = KEYS[1]  -- hash: shared config
local learned     = KEYS[2]  -- zset: key id and key -> last observation
local successors  = KEYS[3]  -- prefix of the sets of next keys
local soon        = KEYS[4]  -- prefix of the sets of keys soon after
local partitions  = ARGV[1]  -- int: how many partitions this client believes in
-- A row: what followed a key, in order. Its id, the key, 'n' (next) or 's' (soon after) for each time, and the key that did.
local rows, rows_at = ARGV, 2  -- list: id, key, times, other keys, ...

--@include clock
--@include stale
local shape = redis.call('HMGET', state, 'partitions', 'bound_entries')
if shape[1] ~= partitions then return stale() end
local _, us = clock()
local LIFE, KEPT, CLOCK = 16, 32, '\255'  -- no key contains the byte 255
local NEXT = string.byte('n')

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

-- Each set is read once and written once. `scores` has the keys concerned, false for one that is not there.
local function read(name, keys, scores)
  for at, points in ipairs(redis.call('ZMSCORE', name, unpack(keys))) do
    scores[keys[at]] = points and tonumber(points)
  end
end

-- old: the set may have had more. began, t: the clock before, and now. The time to live starts anew with what is new, and
-- with every fourth observation at the latest.
local function write(name, keys, scores, most, newest, old, began, t)
  local changes = {}
  for _, key in ipairs(keys) do
    if scores[key] then
      changes[#changes + 1] = scores[key]
      changes[#changes + 1] = key
    end
  end
  local added = redis.call('ZADD', name, unpack(changes))
  if added > 0 and (old or added > KEPT) then trim(name, most, newest) end
  if added > 0 or math.floor(t * LIFE / 4) ~= math.floor(began * LIFE / 4) then
    redis.call('PEXPIRE', name, 2592000000)
  end
end

local function note(scores, other, t)
  local f = scores[other] or t - 2000
  scores[other] = t + math.log(1 + 2 ^ (f - t)) / math.log(2)
end

-- What nothing was learned from before has no sets to read; one call says that it is so of all.
local listed, at = {}, rows_at
while at <= #rows do
  listed[#listed + 1] = rows[at] .. rows[at + 1]
  at = at + 3 + #rows[at + 2]
end
local known, unread = redis.call('ZMSCORE', learned, unpack(listed)), {}
for one, id_and_key in ipairs(listed) do
  if not known[one] then
    local id = string.sub(id_and_key, 1, 16)
    unread[#unread + 1], unread[#unread + 2] = successors .. id, soon .. id
  end
end
local all_known = #unread > 0 and redis.call('EXISTS', unpack(unread)) > 0

-- What is to be written: first all is read, which shows what is damaged; and a set is listed before it is there.
local news, writes, observed = {}, {}, 0
at = rows_at
for one, id_and_key in ipairs(listed) do
  local id, times = rows[at], rows[at + 2]
  local old = known[one] or all_known
  local nexts, soons, next_scores, soon_scores = {CLOCK}, {}, {}, {}
  for i = 1, #times do
    local other, keys, scores = rows[at + 2 + i], soons, soon_scores
    if string.byte(times, i) == NEXT then keys, scores = nexts, next_scores end
    if scores[other] == nil then
      scores[other] = false
      keys[#keys + 1] = other
    end
  end
  if old then
    read(successors .. id, nexts, next_scores)
    if #soons > 0 then read(soon .. id, soons, soon_scores) end
  end

  local began = next_scores[CLOCK] or 0
  local t, last_next, last_soon, soon_t = began, nil, nil, nil
  for i = 1, #times do
    local other = rows[at + 2 + i]
    if string.byte(times, i) == NEXT then
      t = t + 1 / LIFE
      note(next_scores, other, t)
      last_next = other
    elseif t > 0 then
      note(soon_scores, other, t)
      last_soon, soon_t = other, t
    end
  end
  if last_next then
    next_scores[CLOCK] = t
    writes[#writes + 1] = {successors .. id, nexts, next_scores, KEPT + 1, last_next, old, began, t}
  end
  if last_soon then
    writes[#writes + 1] = {soon .. id, soons, soon_scores, KEPT, last_soon, old, began, soon_t}
  end
  if last_next or last_soon then
    news[#news + 1] = us
    news[#news + 1] = id_and_key
  end
  observed = observed + #times
  at = at + 3 + #times
end
local added = #news > 0 and redis.call('ZADD', learned, unpack(news)) or 0
for _, one in ipairs(writes) do write(unpack(one)) end
local over = redis.call('ZCARD', learned) - 4 * tonumber(shape[2])
if over > 0 then
  -- There may be many more than that, if the bound was lowered.
  local oldest, gone = redis.call('ZPOPMIN', learned, math.min(over, added + 64)), {}
  for at = 1, #oldest, 2 do
    gone[at], gone[at + 1] = successors .. string.sub(oldest[at], 1, 16), soon .. string.sub(oldest[at], 1, 16)
  end
  redis.call('UNLINK', unpack(gone))
end
return observed
