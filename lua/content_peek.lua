-- Look a text or key up and leave no trace: for read-only clients, and to ask one of several partitions.
-- Returns what content_reply says of the entry; {'ambiguous'}; or nothing.
local state      = KEYS[1]  -- hash: shared config
local usage      = KEYS[2]  -- hash: entry id -> use, size, deadline
local prefixes   = KEYS[3]  -- zset, scores 0: stretches of normalized text, each with its entry's id
local indexed    = KEYS[4]  -- hash: entry id -> what its members in `prefixes` are made of
local entries    = KEYS[5]  -- prefix of the entries' hashes
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local id         = ARGV[2]  -- the entry's id, if it is there under this very text or key
local check      = ARGV[3]  -- SHA-256 of the normalized text, or of the key
local stem       = ARGV[4]  -- what begins the members that match, '' for an exact look-up only
local levels     = ARGV[5]  -- steps to take: 'e', 'en', 'enp' or 'p'
local ambiguous  = ARGV[6]  -- 'miss' or 'newest'
local text       = ARGV[7]  -- which hits send the original text: 'none', 'inexact', 'all'

--@include clock
--@include stale
--@include usage
--@include content_live
--@include content_range
--@include content_search
--@include content_reply
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local now = clock()
local g = {usage = usage, prefixes = prefixes, indexed = indexed, entries = entries}
local level, found, u, entry = 'exact', id, nil, nil
if string.find(levels, 'e') then u, entry = content_live(g, id, now) end
if not (u and entry[1] == check) then
  local q = {check = check, stem = stem, levels = levels, ambiguous = ambiguous}
  level, found, u, entry = content_search(g, q, now)
end
if u then return content_reply(entries, indexed, level, found, entry, now, text) end
return level == 'ambiguous' and {level} or nil
