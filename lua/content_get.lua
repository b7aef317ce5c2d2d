-- Look a text or key up, exact, then normalized, then by prefix, and record the use.
-- Returns what content_reply says of the entry; {'ambiguous'}; or nothing.
--@include content_keys
local id        = ARGV[2]  -- the entry's id, if it is there under this very text or key
local check     = ARGV[3]  -- SHA-256 of the normalized text, or of the key
local stem      = ARGV[4]  -- what begins the members that match, '' for an exact look-up only
local levels    = ARGV[5]  -- steps to take: 'e', 'en' or 'enp'
local ambiguous = ARGV[6]  -- 'miss' or 'newest'
local text      = ARGV[7]  -- which hits send the original text: 'none', 'inexact', 'all'
local final     = ARGV[8]  -- '1': finding nothing is a miss; '': other partitions are asked next

--@include clock
--@include hot_state
--@include stale
--@include usage
--@include policy
--@include hit
--@include content_members
--@include content_remove
--@include content_bury
--@include content_range
--@include content_find
--@include content_reply
local s = read_hot(state, partitions)
if not s then return stale() end
local now, us = clock()
s.tick = math.max(us, s.tick + 1)

local q = {id = id, check = check, stem = stem, levels = levels, ambiguous = ambiguous}
local dead = {bytes = 0, expirations = 0}
local level, found, u, entry = content_find(g, q, now, content_bury(g, dead))
local reply = nil
if u then
  hit(g, s, found, u, now)
  s.hits = s.hits + 1
  redis.call('HINCRBY', state, level .. '_hits', 1)
  reply = content_reply(g, level, found, entry, now, text)
elseif final == '1' then
  policy_request(s, 'miss')
  s.misses = s.misses + 1
  if level == 'ambiguous' then
    redis.call('HINCRBY', state, level, 1)
    reply = {level}
  end
end
for name, change in pairs(dead) do
  if change ~= 0 then redis.call('HINCRBY', state, name, change) end
end
write_hot(state, s)
return reply
