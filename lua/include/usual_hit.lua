-- usual_hit(packed, used, partitions, now, us): what a hit makes of the state and of a usage record, where there is nothing
-- out of the ordinary. It does on plain numbers what read_hot, use, policy_score and write_hot do on tables for all cases:
-- most look-ups are of this kind, and for them tables, and functions that are not needed, are a third of the server's work.
-- Returns the score, the new state, the new record; the tick, kinds of events and their cap; the hits before, deadline,
-- cost and time to live. Nothing where a policy, a sliding deadline or a damaged record needs the general way; then
-- nothing has been done.
--@include hot_format
--@include usage_format
local function usual_hit(packed, used, partitions, now, us)
  if not packed or #packed < STATE_BYTES or not used or #used ~= USAGE_BYTES then return nil end
  local sliding, tick, capacity, t, r, rate, asked, hits, misses, saved_ms, bound_bytes, bound_entries, event_cap,
    count, policy, kinds, cold = struct.unpack(HOT, packed)
  local uses, last, size, cost, deadline, ttl, f, mark = struct.unpack(USAGE, used)
  local counts = policy == 'adaptive' or policy == 'cost'
  if count ~= partitions or sliding == 1 or (deadline > 0 and deadline <= now) or f - f ~= 0 or cost - cost ~= 0
    or not (counts or policy == 'lru') then return nil end

  tick = math.max(us, tick + 1)
  local points = tick
  if counts then
    --@include policy_math
    local step = policy_step(policy == 'cost' and capacity < bound_entries, capacity, bound_bytes, size)
    t = t + step / policy_life(policy)
    r = r + rate * step
    f = policy_add(t, f, 1)
    points = f + r
    if policy == 'cost' then points = points + policy_worth(cost, size) end
  end
  packed = struct.pack(HOT, sliding, tick, capacity, t, r, rate, asked, hits + 1, misses, saved_ms + cost, bound_bytes,
    bound_entries, event_cap, #count, count, #policy, policy, #kinds, kinds) .. string.sub(packed, cold)
  return points, packed, struct.pack(USAGE, uses + 1, now, size, cost, deadline, ttl, f, mark), tick, kinds, event_cap,
    uses, deadline, cost, ttl
end
