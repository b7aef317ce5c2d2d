-- The caller is still computing: its lease holds for as long again. Returns 1, or 0 when it has lost it.
local state      = KEYS[1]            -- hash: shared config
local lease      = KEYS[2]            -- hash: who computes this
local partitions = ARGV[1]            -- int: how many partitions this client believes in
local owner      = ARGV[2]            -- the caller
local fence      = ARGV[3]            -- its token
local lease_ms   = tonumber(ARGV[4])  -- int: how long it holds from now

--@include clock
--@include stale
--@include flight
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
if not flight_held(lease, owner, fence) then return 0 end
flight_keep(lease, clock(), lease_ms)
return 1
