-- Find entries and record the accesses: counters, recency, frequency, events. Gets that are sent at the same time come as
-- one call: what a call costs beside them is several times what one of them does.
-- Returns of each row what smart_reply says; or nothing when it is absent, expired, or there with another hash only; or
-- the error of that row alone.
local score      = KEYS[1]  -- zset: entry id -> eviction priority
local usage      = KEYS[2]  -- hash: entry id -> use, size, cost, deadline; and the state
local deadline   = KEYS[3]  -- zset: entry id -> expiry (ms)
local events     = KEYS[4]  -- stream: what happened
local entries    = KEYS[5]  -- prefix of the entries' hashes
local predicted  = KEYS[6]  -- zset: key id -> when it was predicted (ms)
local state      = KEYS[7]  -- hash: shared config, rare counters
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local rows, rows_at = ARGV, 2  -- list: entry id, key, content hash asked for ('' for any), its id among versions, ...

--@include clock
--@include usual_hit
local now, us = clock()
local used, entry
if #rows == rows_at + 3 then
  local id, key, wanted = rows[rows_at], rows[rows_at + 1], rows[rows_at + 2]
  used = redis.call('HMGET', usage, '*', id)
  entry = redis.pcall('HMGET', entries .. id, 'o', 'h', 'k')
  if entry[3] == key and (wanted == '' or entry[2] == wanted) then
    local points, packed, record, tick, kinds, cap, uses, due, cost, ttl =
      usual_hit(used[1], used[2], partitions, now, us)
    local left = points and due > 0 and due - now - (tonumber(redis.call('HGET', entries .. id, 'g')) or 0)
    -- The first use of what a prediction has made is counted.
    if points and uses > 0 and (not left or left > 0) then
      if string.find(kinds, 'HIT', 1, true) then
        --@include emit_read
        emit_read(events, cap, tick, 'HIT', key)
      end
      redis.call('ZADD', score, points, id)
      redis.call('HSET', usage, '*', packed, id, record)
      if not left then return {{entry[1], entry[2]}} end
      --@include smart_reply
      return {smart_reply(id, id, {cost = cost, ttl = ttl}, entry, left)}
    end
  end
else
  local ids = {}
  for i = rows_at, #rows, 4 do ids[#ids + 1] = rows[i] end
  used = redis.call('HMGET', usage, '*', unpack(ids))
end

-- What only the other cases need comes here: a script makes its functions anew at every call.
--@include write_hot
--@include stale
--@include emit
--@include policy
--@include note
--@include smart_find
--@include smart_reply
local s = parse_hot(used[1], partitions)
if not s then return stale() end
local g = {score = score, usage = usage, deadline = deadline, entries = entries, uses = {}, points = {}}
local replies = {}
for at = rows_at, #rows, 4 do
  local n, id, key = #replies + 1, rows[at], rows[at + 1]
  s.tick = math.max(us, s.tick + 1)
  -- An entry that somebody has damaged is no concern of the other rows.
  local fine, found, u, entry, expires =
    pcall(smart_find, g, id, key, rows[at + 2], rows[at + 3], now, used[n + 1], entry)
  if not fine then
    replies[n] = type(found) == 'table' and found or redis.error_reply(found)
  elseif u then
    note(g, s, found, u, now)
    s.hits = s.hits + 1
    s.saved_ms = s.saved_ms + u.cost
    -- The first use of what a prediction has made.
    if u.count == 1 and redis.call('HGET', entries .. found, 'p') == 'predicted' then
      redis.call('HINCRBY', state, 'warmed_used', 1)
    end
    emit(events, s, 'HIT', key, '')
    replies[n] = smart_reply(id, found, u, entry, expires - now)
  else
    policy_request(s, 'miss')
    s.misses = s.misses + 1
    if redis.call('ZREM', predicted, id) == 1 then redis.call('HINCRBY', state, 'predicted_late', 1) end
    emit(events, s, 'MISS', key, found)
    replies[n] = false
  end
end
write_noted(g, s)
return replies
