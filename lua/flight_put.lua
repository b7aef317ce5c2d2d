-- Store what a caller computed, give its lease back, and tell those who wait. Refused when the lease is another's by
-- now; from a caller without one, when there is a lease or an output.
-- Returns 1 stored, 0 this request took effect before, -1 the cache could never hold it, -2 refused.
--@include smart_keys
--@include smart_new
local lease    = KEYS[16]            -- hash: who computes this
local wakes    = KEYS[17]            -- stream: flights that ended while others waited
local flight   = ARGV[15]            -- its name there
local owner    = ARGV[16]            -- the caller, '' for one without a lease
local fence    = ARGV[17]            -- its token
local grace_ms = tonumber(ARGV[18])  -- int: how long an expired output may still stand in for a failed compute

--@include smart_store
--@include smart_find
--@include flight
local s = read_state(state, partitions)
if not s then return stale() end
if redis.call('EXISTS', requests .. request) == 1 then return 0 end
local now, us = clock()
if owner ~= '' then
  if not flight_held(lease, owner, fence) then return -2 end
else
  local _, there = smart_find(g, id, key, hash, hash_id, now)
  if there or not flight_free(lease, now) then return -2 end
end
redis.call('SET', requests .. request, '1', 'PX', 60000)
s.tick = math.max(us, s.tick + 1)
new.grace_ms = grace_ms
local stored = smart_store(g, s, new, now)
write_state(state, s)
if not stored then redis.call('DEL', requests .. request) end
flight_end(lease, wakes, flight)
return stored and 1 or -1
