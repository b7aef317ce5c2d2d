-- Record how a look-up in several partitions ended: the use of the entry that was chosen, or a miss.
-- Returns 1 if the entry is still there.
local score      = KEYS[1]  -- zset: entry id -> eviction priority
local usage      = KEYS[2]  -- hash: entry id -> use, size, deadline; and the state
local deadline   = KEYS[3]  -- zset: entry id -> expiry (ms)
local entries    = KEYS[4]  -- prefix of the entries' hashes
local state      = KEYS[5]  -- hash: shared config, rare counters
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local id         = ARGV[2]  -- the entry's id, '' for a miss
local level      = ARGV[3]  -- 'prefix', 'ambiguous' or 'absent'

--@include clock
--@include write_hot
--@include stale
--@include policy
--@include hit
local s, used = read_hot(usage, partitions, id)
if not s then return stale() end
local now, us = clock()
s.tick = math.max(us, s.tick + 1)
if id ~= '' then
  s.hits = s.hits + 1
  redis.call('HINCRBY', state, level .. '_hits', 1)
else
  policy_request(s, 'miss')
  s.misses = s.misses + 1
  if level == 'ambiguous' then redis.call('HINCRBY', state, level, 1) end
end
local u = used and parse_usage(used) or nil
if u then hit({score = score, usage = usage, deadline = deadline, entries = entries}, s, id, u, now) end
if u then
  write_hot(usage, s, id, format_usage(u))
else
  write_hot(usage, s)
end
return u and 1 or 0
