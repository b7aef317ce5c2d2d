-- Computing failed: give the lease back, if it is still this caller's, and tell those who wait.
-- Returns {output, content hash} of one that expired at most `stale_ms` ago and is still there, or nothing.
local state      = KEYS[1]  -- hash: shared config
local usage      = KEYS[2]  -- hash: entry id -> use, size, cost, deadline
local entries    = KEYS[3]  -- prefix of the entries' hashes
local lease      = KEYS[4]  -- hash: who computes this
local wakes      = KEYS[5]  -- stream: flights that ended while others waited
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local id         = ARGV[2]  -- the key's id
local key        = ARGV[3]  -- the key itself
local wanted     = ARGV[4]  -- content hash asked for, '' for any
local wanted_id  = ARGV[5]  -- id of that hash among the older versions
local flight     = ARGV[6]  -- its name in `wakes`
local owner      = ARGV[7]  -- the caller, '' for one without a lease
local fence      = ARGV[8]  -- its token
local stale_ms   = ARGV[9]  -- int: how long an output may have expired; '' for none at all

--@include clock
--@include stale
--@include usage
--@include smart_find
--@include flight
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
if owner ~= '' and flight_held(lease, owner, fence) then flight_end(lease, wakes, flight) end
if stale_ms == '' then return nil end
-- Good enough is what was good then, and whose own grace is not over yet either.
local now = clock()
local _, u, entry =
  smart_find({usage = usage, entries = entries}, id, key, wanted, wanted_id, now - tonumber(stale_ms))
return u and (u.deadline == 0 or u.deadline > now) and {entry[1], entry[2]}
