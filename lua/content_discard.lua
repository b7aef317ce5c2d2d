-- An entry that was just handed out could not be decoded: take the hit back, count it, and remove the entry if it is
-- still the one that was read. Returns 1 if it was removed.
--@include content_keys
local state = KEYS[7]  -- hash: shared config, rare counters
local id    = ARGV[2]  -- the entry's id
local seen  = ARGV[3]  -- tick of the write of the entry that was read
local level = ARGV[4]  -- on which level it was counted as a hit

--@include content_group
--@include stale
--@include write_state
--@include content_members
--@include content_remove
local s = read_state(usage, partitions)
if not s then return stale() end
local removed = 0
if redis.call('HGET', entries .. id, 'w') == seen then removed = drop(g, s, id) and 1 or 0 end
s.hits = math.max(0, s.hits - 1)
s.misses = s.misses + 1
s.corrupt = s.corrupt + 1
if level ~= 'exact' then redis.call('HINCRBY', state, level .. '_hits', -1) end
write_state(usage, s)
return removed
