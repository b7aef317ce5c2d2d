-- Record reads that near caches answered, an entry's all at once: counters, recency, frequency. All were exact hits.
-- An entry that is gone by now was read nevertheless. Returns 1; 0 when this request took effect before.
local score      = KEYS[1]  -- zset: entry id -> eviction priority
local usage      = KEYS[2]  -- hash: entry id -> use, size, deadline; and the state
local deadline   = KEYS[3]  -- zset: entry id -> expiry (ms)
local entries    = KEYS[4]  -- prefix of the entries' hashes
local requests   = KEYS[5]  -- prefix of the marks of requests that took effect
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local request    = ARGV[2]  -- id of this request; a repeat carries the same
local touched, touched_at = ARGV, 3  -- list: entry id, how often it was read, ...; the last used last

--@include clock
--@include write_hot
--@include stale
--@include policy
--@include hit
--@include uses
local s = read_hot(usage, partitions)
if not s then return stale() end
if not redis.call('SET', requests .. request, '1', 'NX', 'PX', 60000) then return 0 end
local now, us = clock()
local g = {score = score, usage = usage, deadline = deadline, entries = entries}
for i = touched_at, #touched, 2 do
  s.tick = math.max(us, s.tick + 1)
  s.hits = s.hits + touched[i + 1]
  uses(g, s, touched[i], tonumber(touched[i + 1]), now)
end
write_hot(usage, s)
return 1
