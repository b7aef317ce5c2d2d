-- Look texts or keys up, exact, then normalized, then by prefix, and record the uses. Look-ups of one kind, sent at the
-- same time, come as one call: what a call costs beside them is several times what one of them does.
-- Returns of each row what content_reply says of the entry; {'ambiguous'}; or nothing; or the error of that row alone.
--@include content_keys
local state     = KEYS[7]  -- hash: shared config, rare counters
local levels    = ARGV[2]  -- steps to take: 'e', 'en' or 'enp'
local ambiguous = ARGV[3]  -- what an ambiguous prefix is: 'miss' or 'newest'
local text      = ARGV[4]  -- which hits send the original text: 'none', 'inexact', 'all'
local final     = ARGV[5]  -- '1': finding nothing is a miss, '': other partitions are asked next
-- A row: the entry's id, if it is there under this very text or key; SHA-256 of the normalized text, or of the key; what
-- begins the members that match, '' for an exact look-up only.
local rows, rows_at = ARGV, 6  -- list: id, check, stem, ...

--@include clock
--@include usual_hit
--@include content_reply
local now, us = clock()
local used, first
if #rows == rows_at + 2 then
  local id, check = rows[rows_at], rows[rows_at + 1]
  used = redis.call('HMGET', usage, '*', id)
  first = used[2] and redis.pcall('HMGET', entries .. id, 'v', 'd', 'w', 's')
  local level, record, entry = 'exact', used[2], first
  if not record then
    --@include sole_match
    level, id = sole_match(prefixes, levels, rows[rows_at + 2])
    record = id and redis.call('HGET', usage, id)
    entry = record and redis.pcall('HMGET', entries .. id, 'v', 'd', 'w', 's')
  end
  if entry and (entry[1] == check or level == 'prefix' and entry[1]) and tonumber(entry[3]) then
    local points, packed, used_up = usual_hit(used[1], record, partitions, now, us)
    if points then
      local reply = content_reply(entries, indexed, level, id, entry, now, text)
      redis.call('ZADD', score, points, id)
      redis.call('HSET', usage, '*', packed, id, used_up)
      if level ~= 'exact' then redis.call('HINCRBY', state, level .. '_hits', 1) end
      return {reply}
    end
  end
else
  local ids = {}
  for i = rows_at, #rows, 3 do ids[#ids + 1] = rows[i] end
  used = redis.call('HMGET', usage, '*', unpack(ids))
end

-- What only the other cases need comes here: a script makes its functions and tables anew at every call.
--@include content_group
--@include write_hot
--@include stale
--@include policy
--@include note
--@include content_live
local s = parse_hot(used[1], partitions)
if not s then return stale() end

-- And here, what only a search needs. An entry that is found dead goes at once, so from then on no usage record that was
-- read before is trusted.
local function search(at, id, why)
--@include state
--@include content_members
--@include content_remove
--@include content_bury
--@include content_range
--@include content_search
  thaw(s)
  local bury = content_bury(g, s)
  used = {}
  local fine, level, found, u, entry = pcall(function()
    if why == 'expired' or why == 'gone' then bury(id, why == 'expired') end
    local q = {check = rows[at + 1], stem = rows[at + 2], levels = levels, ambiguous = ambiguous}
    return content_search(g, q, now, bury)
  end)
  freeze(s)
  if not fine then error(level, 0) end
  return level, found, u, entry
end

local function look_up(at, id, known)
  local level, found = 'exact', id
  local u, entry = content_live(g, id, now, known, first)
  if not (u and entry[1] == rows[at + 1]) then level, found, u, entry = search(at, id, entry) end
  return level, found, u, u and content_reply(entries, indexed, level, found, entry, now, text)
end

g.uses, g.points = {}, {}
local replies = {}
for at = rows_at, #rows, 3 do
  local n, id = #replies + 1, rows[at]
  s.tick = math.max(us, s.tick + 1)
  -- An entry that somebody has damaged is no concern of the other rows.
  local fine, level, found, u, reply = pcall(look_up, at, id, used[n + 1])
  replies[n] = false
  if not fine then
    replies[n] = type(level) == 'table' and level or redis.error_reply(level)
  elseif u then
    note(g, s, found, u, now)
    s.hits = s.hits + 1
    if level ~= 'exact' then redis.call('HINCRBY', state, level .. '_hits', 1) end
    replies[n] = reply
  elseif final == '1' then
    policy_request(s, 'miss')
    s.misses = s.misses + 1
    if level == 'ambiguous' then
      redis.call('HINCRBY', state, level, 1)
      replies[n] = {level}
    end
  end
end
write_noted(g, s)
return replies
