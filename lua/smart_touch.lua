-- Count a use of an entry without reading it, and give it a new time to live if asked. Returns 1 if it is there.
local score      = KEYS[1]  -- zset: entry id -> eviction priority
local usage      = KEYS[2]  -- hash: entry id -> use, size, cost, deadline; and the state
local deadline   = KEYS[3]  -- zset: entry id -> expiry (ms)
local entries    = KEYS[4]  -- prefix of the entries' hashes
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local id         = ARGV[2]  -- the key's id
local key        = ARGV[3]  -- the key itself
local ttl_ms     = ARGV[4]  -- int: new time to live from now, '' to leave it, 0 for ever

--@include clock
--@include write_hot
--@include stale
--@include policy
--@include hit
--@include smart_find
local s, used = read_hot(usage, partitions, id)
if not s then return stale() end
local now, us = clock()
s.tick = math.max(us, s.tick + 1)
local g = {score = score, usage = usage, deadline = deadline, entries = entries}
local found, u, _, _, grace = smart_find(g, id, key, '', '', now, used)
if not u then return 0 end
if ttl_ms ~= '' then
  u.ttl = tonumber(ttl_ms)
  if u.ttl > 0 then u.ttl = u.ttl + grace end
  u.deadline = u.ttl > 0 and now + u.ttl or 0
  if u.ttl > 0 then
    redis.call('ZADD', deadline, u.deadline, found)
    redis.call('PEXPIRE', entries .. found, 2 * u.ttl + 120000)
  else
    redis.call('ZREM', deadline, found)
    redis.call('PERSIST', entries .. found)
  end
end
hit(g, s, found, u, now)
write_hot(usage, s, found, format_usage(u))
return 1
