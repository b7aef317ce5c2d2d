-- Remove every version of one key; what is being computed for it is void. Returns how many versions there were.
--@include smart_keys
local voided  = KEYS[16]  -- zset: key id -> fence at which it was invalidated
local state   = KEYS[17]  -- hash: shared config, rare counters
local id      = ARGV[2]   -- the key's id
local details = ARGV[3]   -- the reason, for the event

--@include smart_group
--@include clock
--@include stale
--@include emit
--@include write_state
--@include edges
--@include smart_remove
--@include forget_relics
--@include void
local s = read_state(usage, partitions)
if not s then return stale() end
local _, us = clock()
s.tick = math.max(us, s.tick + 1)
local dropped = drop_key(g, s, id, details)
if dropped > 0 then
  s.invalidations = s.invalidations + dropped
  forget_relics(g, s)
  write_state(usage, s)
end
void_mark(state, voided, {id})
return dropped
