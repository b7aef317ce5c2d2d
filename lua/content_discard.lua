-- Remove one entry: its successor is too large, or it was just handed out and could not be decoded; then the hit is
-- taken back and counted as corrupt, and the entry goes if it is still the one that was read.
-- Returns 1 if it was removed.
--@include content_keys
local id    = ARGV[2]  -- the entry's id
local seen  = ARGV[3]  -- tick of the write of the entry that was read, '' to remove whatever is there
local level = ARGV[4]  -- on which level it was a hit, '' if none was counted

--@include clock
--@include state
--@include stale
--@include usage
--@include content_members
--@include content_remove
local s = read_state(state, partitions)
if not s then return stale() end
local _, us = clock()
s.tick = math.max(us, s.tick + 1)
local removed = 0
if seen == '' or redis.call('HGET', entries .. id, 'w') == seen then
  removed = content_remove(g, s, id) and 1 or 0
end
if level ~= '' then
  s.hits = math.max(0, s.hits - 1)
  s.misses = s.misses + 1
  s.corrupt = s.corrupt + 1
  redis.call('HINCRBY', state, level .. '_hits', -1)
end
write_state(state, s)
return removed
