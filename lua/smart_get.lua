-- Find an entry and record the access: counters, recency, frequency, event.
-- Returns what smart_reply says; or nothing when it is absent, expired, or there with another hash only.
local state      = KEYS[1]   -- hash: shared config, clocks, counters
local score      = KEYS[2]   -- zset: entry id -> eviction priority
local usage      = KEYS[3]   -- hash: entry id -> use, size, cost, deadline
local deadline   = KEYS[4]   -- zset: entry id -> expiry (ms)
local events     = KEYS[5]   -- stream: what happened
local entries    = KEYS[6]   -- prefix of the entries' hashes
local predicted  = KEYS[7]   -- zset: key id -> when it was predicted (ms)
local partitions = ARGV[1]   -- int: how many partitions this client believes in
local id         = ARGV[2]   -- the entry's id
local key        = ARGV[3]   -- the key itself
local wanted     = ARGV[4]   -- content hash asked for, '' for any
local wanted_id  = ARGV[5]   -- id of that hash among the older versions

--@include clock
--@include hot_state
--@include stale
--@include emit
--@include usage
--@include policy
--@include hit
--@include smart_find
--@include smart_reply
local s = read_hot(state, partitions)
if not s then return stale() end
local now, us = clock()
s.tick = math.max(us, s.tick + 1)

local g = {score = score, usage = usage, deadline = deadline, entries = entries}
local found, u, entry, expires = smart_find(g, id, key, wanted, wanted_id, now)
if u then
  hit(g, s, found, u, now)
  s.hits = s.hits + 1
  s.saved_ms = s.saved_ms + u.cost
  -- The first use of what a prediction has made.
  if entry[5] and u.count == 1 then redis.call('HINCRBY', state, 'warmed_used', 1) end
  emit(events, s, 'HIT', key, '')
else
  policy_request(s, 'miss')
  s.misses = s.misses + 1
  if redis.call('ZREM', predicted, id) == 1 then redis.call('HINCRBY', state, 'predicted_late', 1) end
  emit(events, s, 'MISS', key, found)
end
write_hot(state, s)
return u and smart_reply(id, found, u, entry, expires - now)
