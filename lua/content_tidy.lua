-- Remove what has expired and what is over the bounds (they may have been lowered), at most `limit` entries of each.
-- Returns {how many had expired, 1 if there is more to do else 0}.
--@include content_keys
--@include content_ghosts
local limit = tonumber(ARGV[2])  -- int: entries to remove in this call

--@include content_group
g.ghost, g.ghost_old = ghost, ghost_old
--@include clock
--@include stale
--@include write_state
--@include policy
--@include ghost
--@include content_members
--@include content_remove
--@include reap
--@include evict
local s = read_state(usage, partitions)
if not s then return stale() end
local now, us = clock()
s.tick = math.max(us, s.tick + 1)
local expired = reap(g, s, now, limit)
local fits = evict(g, s, 0, 0, limit)
write_state(usage, s)
return {expired, (expired == limit or not fits) and 1 or 0}
