-- Store what a caller computed, give its lease back, and tell those who wait. Refused when the lease is another's by
-- now, or when the key or something it depends on was invalidated since it was given; from a caller without one, but
-- when the lease that it waited for has run out, and there is no output.
-- Returns 1 stored, 0 this request took effect before, -1 the cache could never hold it, -2 refused.
--@include smart_keys
--@include smart_new
local lease    = KEYS[17]            -- hash: who computes this
local wakes    = KEYS[18]            -- stream: flights that ended while others waited
local voided   = KEYS[19]            -- zset: key id -> fence at which it was invalidated
local flight   = ARGV[14]            -- its name there
local owner    = ARGV[15]            -- the caller, '' for one without a lease
local fence    = ARGV[16]            -- its token; of a caller without a lease, that of the one it waited for, or ''
local grace_ms = tonumber(ARGV[17])  -- int: how long an expired output may still stand in for a failed compute

--@include smart_group
--@include smart_output
--@include smart_store
--@include smart_find
--@include flight
--@include void
local s, used = read_state(usage, partitions, id)
if not s then return stale() end
if redis.call('EXISTS', requests .. request) == 1 then return 0 end
local now, us = clock()
if owner ~= '' then
  if not flight_held(lease, owner, fence) then return -2 end
else
  local _, there = smart_find(g, id, key, hash, hash_id, now)
  if there or fence == '' or redis.call('HGET', lease, 'n') ~= fence or not flight_free(lease, now) then return -2 end
end
if void_since(voided, fence, id, new.links) then
  flight_end(lease, wakes, flight)
  return -2
end
redis.call('SET', requests .. request, '1', 'PX', 60000)
s.tick = math.max(us, s.tick + 1)
new.grace_ms = grace_ms
local stored, u = smart_store(g, s, new, now, used)
write_state(usage, s, id, u)
if not stored then redis.call('DEL', requests .. request) end
flight_end(lease, wakes, flight)
return stored and 1 or -1
