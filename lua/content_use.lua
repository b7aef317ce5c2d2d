-- Record how a look-up in several partitions ended: the use of the entry that was chosen, or a miss.
-- Returns 1 if the entry is still there.
local state      = KEYS[1]  -- hash: shared config, clocks, counters
local score      = KEYS[2]  -- zset: entry id -> eviction priority
local usage      = KEYS[3]  -- hash: entry id -> use, size, deadline
local deadline   = KEYS[4]  -- zset: entry id -> expiry (ms)
local entries    = KEYS[5]  -- prefix of the entries' hashes
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local id         = ARGV[2]  -- the entry's id, '' for a miss
local level      = ARGV[3]  -- 'prefix', 'ambiguous' or 'absent'

--@include clock
--@include hot_state
--@include stale
--@include usage
--@include policy
--@include hit
local s = read_hot(state, partitions)
if not s then return stale() end
local now, us = clock()
s.tick = math.max(us, s.tick + 1)
local used = redis.call('HGET', usage, id)
if id ~= '' then
  s.hits = s.hits + 1
  redis.call('HINCRBY', state, level .. '_hits', 1)
else
  policy_request(s, 'miss')
  s.misses = s.misses + 1
  if level == 'ambiguous' then redis.call('HINCRBY', state, level, 1) end
end
if used then hit({score = score, usage = usage, deadline = deadline, entries = entries}, s, id, parse_usage(used), now) end
write_hot(state, s)
return used and 1 or 0
