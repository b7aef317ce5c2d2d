-- Remove one entry, whose successor is too large to be stored. Returns 1 if it was there.
--@include content_keys
local id = ARGV[2]  -- the entry's id

--@include content_group
--@include stale
--@include write_state
--@include content_members
--@include content_remove
local s = read_state(usage, partitions)
if not s then return stale() end
local u = drop(g, s, id)
if u then write_state(usage, s) end
return u and 1 or 0
