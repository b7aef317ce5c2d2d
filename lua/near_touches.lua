-- Record reads that near caches answered, an entry's all at once: counters, recency, frequency, and where events of hits
-- are written, one for each. An entry that is gone by now was read nevertheless.
-- Returns 1; 0 when this request took effect before.
local score      = KEYS[1]  -- zset: entry id -> eviction priority
local usage      = KEYS[2]  -- hash: entry id -> use, size, cost, deadline; and the state
local deadline   = KEYS[3]  -- zset: entry id -> expiry (ms)
local events     = KEYS[4]  -- stream: what happened
local entries    = KEYS[5]  -- prefix of the entries' hashes
local requests   = KEYS[6]  -- prefix of the marks of requests that took effect
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local request    = ARGV[2]  -- id of this request; a repeat carries the same
local touched, touched_at = ARGV, 3  -- list: entry id, how often it was read, ...; the last used last

--@include clock
--@include write_hot
--@include stale
--@include emit
--@include policy
--@include note
local ids = {}
for i = touched_at, #touched, 2 do ids[#ids + 1] = touched[i] end
local used = redis.call('HMGET', usage, '*', unpack(ids))
local s = parse_hot(used[1], partitions)
if not s then return stale() end
if not redis.call('SET', requests .. request, '1', 'NX', 'PX', 60000) then return 0 end
local now, us = clock()
local g = {score = score, usage = usage, deadline = deadline, entries = entries, uses = {}, points = {}}
local told = string.find(s.events, 'HIT', 1, true)
for n, id in ipairs(ids) do
  local times = tonumber(touched[touched_at + 2 * n - 1])
  s.tick = math.max(us, s.tick + 1)
  s.hits = s.hits + times
  local u = g.uses[id] or (used[n + 1] and parse_usage(used[n + 1]))
  if u and (u.deadline == 0 or u.deadline > now) then
    note(g, s, id, u, now, times)
    s.saved_ms = s.saved_ms + u.cost * times
    local key = told and redis.call('HGET', entries .. id, 'k')
    if key then emit(events, s, 'HIT', key, 'near cache, ' .. times .. ' times') end
  end
end
write_noted(g, s)
return 1
