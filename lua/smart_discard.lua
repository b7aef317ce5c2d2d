-- An output that was just handed out could not be decoded: take the hit back, count it, and remove the entry if it is
-- still the one that was read. Returns 1 if it was removed.
--@include smart_keys
local id        = ARGV[2]  -- the key's id
local key       = ARGV[3]  -- the key itself
local hash_id   = ARGV[4]  -- id of the hash of the entry that was read
local counted   = ARGV[5]  -- '1': the read had been counted as a hit

--@include smart_group
--@include clock
--@include stale
--@include emit
--@include write_state
--@include edges
--@include smart_remove
--@include forget_relics
local s = read_state(usage, partitions)
if not s then return stale() end
local _, us = clock()
s.tick = math.max(us, s.tick + 1)
local removed = 0
for _, one in ipairs({id, id .. hash_id}) do
  if redis.call('HGET', entries .. one, 'i') == hash_id then
    local u = drop(g, s, one, 'corrupt entry')
    if u and counted == '1' then s.saved_ms = math.max(0, s.saved_ms - u.cost) end
    removed = 1
  end
end
if counted == '1' then
  s.hits = math.max(0, s.hits - 1)
  s.misses = s.misses + 1
end
s.corrupt = s.corrupt + 1
forget_relics(g, s)
emit(events, s, 'MISS', key, 'corrupt entry')
write_state(usage, s)
return removed
