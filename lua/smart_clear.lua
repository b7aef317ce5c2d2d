-- Remove entries and all that was learned, at most `limit` entries a call; what is being computed is void. Counters,
-- events and history stay.
-- Returns {how many, 1 if more are left else 0}.
--@include smart_keys
local learned    = KEYS[16]           -- zset: key id and key -> about when it was last observed
local after      = KEYS[17]           -- prefix of the hashes of what came after a key
local voided     = KEYS[18]           -- zset: key id -> fence at which it was invalidated
local state      = KEYS[19]           -- hash: shared config, rare counters
local limit      = tonumber(ARGV[2])  -- int: entries to remove in this call

--@include smart_group
--@include clock
--@include stale
--@include emit
--@include write_state
--@include edges
--@include smart_remove
--@include void
local s = read_state(usage, partitions)
if not s then return stale() end
local _, us = clock()
s.tick = math.max(us, s.tick + 1)
local removed = redis.call('ZRANGE', score, 0, limit - 1)
for _, id in ipairs(removed) do
  smart_remove(g, s, id)
  unlink(g, id)
end
local forgotten = redis.call('ZRANGE', learned, 0, limit - 1)
for _, one in ipairs(forgotten) do
  redis.call('UNLINK', after .. string.sub(one, 1, 16))
  redis.call('ZREM', learned, one)
end
local more = #removed == limit or #forgotten == limit
if not more then
  for _, id in ipairs(redis.call('ZRANGE', relics, 0, -1)) do unlink(g, id) end
  redis.call('UNLINK', ghost, ghost_old, usage, deadline)
  s.bytes = 0
  emit(events, s, 'EVICT', '', 'clear')
end
write_state(usage, s)
void_all(state, voided)
return {#removed, more and 1 or 0}
