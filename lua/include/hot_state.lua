-- The state of a partition: its config as scripts read it, the policy's clocks, the counters, in one packed record. It
-- stands in the hash `usage` under the name '*', so that one call reads it with the record of the entry that a script is
-- about, and one writes both: a call costs as much as all the arithmetic of a hit. This is what every read needs and
-- changes; the rest of the record, s.cold, is for `state`. The config is agreed on in the hash `state` (see lua/open.lua),
-- which also has the counters that change rarely.
--
-- parse_hot(packed, partitions): the state; nil when this client does not know the config as it is (flushed, or made anew
-- with other partitions).
-- read_hot(usage, partitions, id): the same, read, and the usage record of the entry (false if there is none).
--@include hot_format
local function parse_hot(packed, partitions)
  -- A text that is none of ours is as good as none.
  if not packed or #packed < STATE_BYTES then return nil end
  local sliding, tick, capacity, t, r, rate, asked, hits, misses, saved_ms, bound_bytes, bound_entries, event_cap,
    count, policy, events, rest = struct.unpack(HOT, packed)
  if count ~= partitions then return nil end
  return {
    sliding = sliding, tick = tick, capacity = capacity, t = t, r = r, rate = rate, asked = asked, hits = hits,
    misses = misses, saved_ms = saved_ms, bound_bytes = bound_bytes, bound_entries = bound_entries,
    event_cap = event_cap, partitions = count, policy = policy, events = events, cold = string.sub(packed, rest),
  }
end

local function read_hot(usage, partitions, ...)
  local found = redis.call('HMGET', usage, '*', ...)
  return parse_hot(found[1], partitions), found[2]
end
