-- Look a text or key up, exact, then normalized, then by prefix, and record the use.
-- Returns what content_reply says of the entry; {'ambiguous'}; or nothing.
--@include content_keys
local state     = KEYS[9]  -- hash: shared config, rare counters
local id        = ARGV[2]  -- the entry's id, if it is there under this very text or key
local check     = ARGV[3]  -- SHA-256 of the normalized text, or of the key
local stem      = ARGV[4]  -- what begins the members that match, '' for an exact look-up only
local levels    = ARGV[5]  -- steps to take: 'e', 'en' or 'enp'
local ambiguous = ARGV[6]  -- 'miss' or 'newest'
local text      = ARGV[7]  -- which hits send the original text: 'none', 'inexact', 'all'
local final     = ARGV[8]  -- '1': finding nothing is a miss; '': other partitions are asked next

--@include clock
--@include write_hot
--@include stale
--@include policy
--@include hit
--@include content_live
--@include content_reply
local s, used = read_hot(usage, partitions, id)
if not s then return stale() end
local now, us = clock()
s.tick = math.max(us, s.tick + 1)

local level, found, u, entry = 'exact', id, content_live(g, id, now, used)
if not (u and entry[1] == check) then
  -- What only a search needs comes here: a script makes its functions anew at every call.
--@include state
--@include content_members
--@include content_remove
--@include content_bury
--@include content_range
--@include content_search
  thaw(s)
  local bury = content_bury(g, s)
  if not u and entry ~= 'absent' then bury(id, entry == 'expired') end
  local q = {check = check, stem = stem, levels = levels, ambiguous = ambiguous}
  level, found, u, entry = content_search(g, q, now, bury)
  freeze(s)
end
local reply = nil
if u then
  hit(g, s, found, u, now)
  s.hits = s.hits + 1
  if level ~= 'exact' then redis.call('HINCRBY', state, level .. '_hits', 1) end
  reply = content_reply(g, level, found, entry, now, text)
elseif final == '1' then
  policy_request(s, 'miss')
  s.misses = s.misses + 1
  if level == 'ambiguous' then
    redis.call('HINCRBY', state, level, 1)
    reply = {level}
  end
end
write_hot(usage, s, found, u)
return reply
