-- The usual put: what it makes of the state and of a usage record, on plain numbers (see `usual_hit`). It replaces a value
-- in place; or the key is not there, and there is room, or one ordinary victim makes room. It does what policy_request,
-- ghost_recall, evict, ghost_add and policy_score do on tables for all cases.
--
-- No function but statements for a loop of one pass, which `break` leaves where anything is out of the ordinary: a
-- function that knows so many names of others takes the server longer to make than all this arithmetic. Only reads.
-- Takes found (the packed state, and the usage record that the key has), partitions, id, size, cost, ttl_ms, now, us, and
-- the names of keys. Leaves
--   points, packed, record  the new score, state and usage record
--   due, ttl                the new deadline and time to live, 0 for none
--   victim, reason          who goes to make room, and why; nil where nobody does
--   gone, gone_*            the usage record, and what it says, of the victim, or else of the value that is replaced
--   known                   the generation of ghosts that has the key
--   remembered, ghosts      what is to be remembered of the victim, and how many ghosts there may be
-- and what it has read of the state. Needs hot_format, cold_format, usage_format.
local packed, used = found[1], found[2]
if not packed or #packed < STATE_BYTES then break end
local sliding, tick, capacity, t, r, rate, asked, hits, misses, saved_ms, bound_bytes, bound_entries, event_cap,
  count, policy, kinds, cold = struct.unpack(HOT, packed)
local own_ttl_ms, versions_kept, history, history_age_ms, bytes, p1, writes, evictions, expirations, invalidations, corrupt =
  struct.unpack(COLD, packed, cold)
local counts = policy == 'adaptive' or policy == 'cost'
if count ~= partitions or versions_kept > 1 or not (counts or policy == 'lru') then break end

local others, gone, victim, reason = redis.call('ZCARD', score), used, nil, nil
if not used and (others >= bound_entries or bytes + size > bound_bytes) then
  reason = others >= bound_entries and 'LRU eviction' or 'LRU eviction (size limit)'
  victim = redis.call('ZRANGE', score, 0, 0)[1]
  gone = victim and #victim == 16 and redis.call('HGET', usage, victim)
  if not gone then break end
end
local gone_uses, gone_size, gone_cost, gone_due, gone_f, gone_mark, _ = 0, 0, 0, 0, nil, nil, nil
if gone then
  if #gone ~= USAGE_BYTES then break end
  gone_uses, _, gone_size, gone_cost, gone_due, _, gone_f, gone_mark = struct.unpack(USAGE, gone)
  if gone_f - gone_f ~= 0 or gone_cost - gone_cost ~= 0 then break end
  others = others - 1
  bytes = bytes - gone_size
end
if others >= bound_entries or bytes + size > bound_bytes then break end
if redis.call('ZCOUNT', deadline, '-inf', now) > 0 then break end  -- something has expired

tick = math.max(us, tick + 1)
local by_bytes, answers = policy == 'cost' and capacity < bound_entries, asked > 0
if answers then asked = asked - 1 end
local f, mark, points, known, remembered, ghosts = t - 2000, '-', tick, nil, nil, nil
local capacity_since = victim and (reason == 'LRU eviction' and bound_entries or others + 1) or capacity
if counts then
  --@include policy_math
  --@include ghost_math
  if by_bytes or not answers then
    local step = policy_step(by_bytes, capacity, bound_bytes, size)
    t = t + step / policy_life(policy)
    r = r + rate * step
  end
  local old_f, kind, number = used and gone_f, nil, nil
  if not used and evictions > 0 then
    known = ghost
    old_f, kind, number = ghost_parse(redis.call('HGET', ghost, id))
    if not old_f then
      known = ghost_old
      old_f, kind, number = ghost_parse(redis.call('HGET', ghost_old, id))
    end
    if not old_f then
      known = nil
    elseif evictions - number <= capacity then
      rate = ghost_learn(policy, rate, p1, capacity, kind)
    end
  end
  if old_f then mark = 'r' end
  f = policy_add(t, old_f or t - 2000, 1)
  points = f + r
  if policy == 'cost' then points = points + policy_worth(cost, size) end
  if victim then
    kind = ghost_kind(gone_uses, gone_mark)
    p1 = p1 + (kind - p1) / capacity_since
    remembered = ghost_text(gone_f, kind, evictions + 1)
    ghosts = ghost_most(policy, capacity_since)
  end
end
if victim then capacity, evictions = capacity_since, evictions + 1 end
local ttl = ttl_ms == '' and own_ttl_ms or tonumber(ttl_ms)
local due = ttl > 0 and now + ttl or 0
local record = struct.pack(USAGE, 0, now, size, cost, due, ttl, f, mark)
packed = struct.pack(HOT, sliding, tick, capacity, t, r, rate, asked, hits, misses, saved_ms, bound_bytes, bound_entries,
  event_cap, #count, count, #policy, policy, #kinds, kinds) .. struct.pack(COLD, own_ttl_ms, versions_kept, history,
  history_age_ms, bytes + size, p1, writes + 1, evictions, expirations, invalidations, corrupt)
