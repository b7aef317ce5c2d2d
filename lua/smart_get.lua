-- Find an entry and record the access: counters, recency, frequency, event.
-- Returns what smart_reply says; or nothing when it is absent, expired, or there with another hash only.
local score      = KEYS[1]  -- zset: entry id -> eviction priority
local usage      = KEYS[2]  -- hash: entry id -> use, size, cost, deadline; and the state
local deadline   = KEYS[3]  -- zset: entry id -> expiry (ms)
local events     = KEYS[4]  -- stream: what happened
local entries    = KEYS[5]  -- prefix of the entries' hashes
local predicted  = KEYS[6]  -- zset: key id -> when it was predicted (ms)
local state      = KEYS[7]  -- hash: shared config, rare counters
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local id         = ARGV[2]  -- the entry's id
local key        = ARGV[3]  -- the key itself
local wanted     = ARGV[4]  -- content hash asked for, '' for any
local wanted_id  = ARGV[5]  -- id of that hash among the older versions

--@include clock
--@include write_hot
--@include stale
--@include emit
--@include policy
--@include hit
--@include smart_find
--@include smart_reply
local s, used = read_hot(usage, partitions, id)
if not s then return stale() end
local now, us = clock()
s.tick = math.max(us, s.tick + 1)

local g = {score = score, usage = usage, deadline = deadline, entries = entries}
local found, u, entry, expires = smart_find(g, id, key, wanted, wanted_id, now, used)
if u then
  hit(g, s, found, u, now)
  s.hits = s.hits + 1
  s.saved_ms = s.saved_ms + u.cost
  -- The first use of what a prediction has made.
  if u.count == 1 and redis.call('HGET', entries .. found, 'p') == 'predicted' then redis.call('HINCRBY', state, 'warmed_used', 1) end
  emit(events, s, 'HIT', key, '')
else
  policy_request(s, 'miss')
  s.misses = s.misses + 1
  if redis.call('ZREM', predicted, id) == 1 then redis.call('HINCRBY', state, 'predicted_late', 1) end
  emit(events, s, 'MISS', key, found)
end
write_hot(usage, s, found, u)
return u and smart_reply(id, found, u, entry, expires - now)
