-- Remove what depends on the given keys, one step away or any number; at most `limit` entries a call, the furthest
-- first, so that a caller who is cut off can start again and still reach the rest. With a limit of 0 it only looks.
-- What is being computed for them, or for what depends on them without being here, is void.
-- Returns {1 if more are left else 0, ids of the keys met (16 bytes each), key, its worth, ...}, the worth being what
-- it cost to make (ms) times its uses.
--@include smart_keys
local voided        = KEYS[16]          -- zset: key id -> fence at which it was invalidated
local state         = KEYS[17]          -- hash: shared config, rare counters
local transitive    = ARGV[2]           -- '1': follow chains
local limit         = tonumber(ARGV[3]) -- int: entries to remove in this call
local roots, roots_at = ARGV, 4         -- list: ids of the keys that changed

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

local ids, met, reply, dropped, more = {}, {}, {0, ''}, 0, false
for i = roots_at, #roots do ids[#ids + 1] = roots[i] end
local found = transitive == '1' and closure(g, ids) or direct(g, ids)
for i = #found, 1, -1 do
  met[#met + 1] = string.sub(found[i], 1, 16)
  if limit > 0 and redis.call('ZSCORE', score, found[i]) then
    if dropped >= limit then
      more = true
      break
    end
    dropped = dropped + 1
    -- Of an entry that expired and went by itself the key is not known.
    local u, key = drop(g, s, found[i], 'dependency invalidate')
    if key then
      reply[#reply + 1] = key
      reply[#reply + 1] = u and string.format('%.17g', u.cost * (u.count + 1)) or '0'
    end
  end
end
if limit > 0 and not more then
  for _, one in ipairs(met) do ids[#ids + 1] = one end
  void_mark(state, voided, ids)
end
if limit > 0 and not more and transitive == '1' then
  -- Everything above the roots is gone now; nothing is left that a relic among them could lead to.
  for _, id in ipairs(found) do unlink(g, id) end
end
if dropped > 0 then
  s.invalidations = s.invalidations + dropped
  forget_relics(g, s)
  write_state(usage, s)
end
reply[1] = more and 1 or 0
reply[2] = table.concat(met)
return reply
