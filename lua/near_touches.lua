-- Record reads that near caches answered, an entry's all at once: counters, recency, frequency, one event for each.
-- An entry that is gone by now was read nevertheless. Returns 1; 0 when this request took effect before.
local score      = KEYS[1]  -- zset: entry id -> eviction priority
local usage      = KEYS[2]  -- hash: entry id -> use, size, cost, deadline; and the state
local deadline   = KEYS[3]  -- zset: entry id -> expiry (ms)
local events     = KEYS[4]  -- stream: what happened
local entries    = KEYS[5]  -- prefix of the entries' hashes
local requests   = KEYS[6]  -- prefix of the marks of requests that took effect
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local request    = ARGV[2]  -- id of this request; a repeat carries the same
local uses, uses_at = ARGV, 3  -- list: entry id, how often it was read, ...; the last used last

--@include clock
--@include write_hot
--@include stale
--@include emit
--@include policy
--@include hit
local s = read_hot(usage, partitions)
if not s then return stale() end
if not redis.call('SET', requests .. request, '1', 'NX', 'PX', 60000) then return 0 end
local now, us = clock()
local g = {score = score, usage = usage, deadline = deadline, entries = entries}
for i = uses_at, #uses, 2 do
  local id, times = uses[i], tonumber(uses[i + 1])
  s.tick = math.max(us, s.tick + 1)
  s.hits = s.hits + times
  local used = redis.call('HGET', usage, id)
  local u = used and parse_usage(used)
  if u and (u.deadline == 0 or u.deadline > now) then
    -- All but one at once: what a decayed count gains by so many uses, and the clocks by so many requests.
    for _ = 2, math.min(times, 1000) do policy_request(s, 'hit', u.size) end
    if times > 1 and policy_life(s) then
      u.f = s.t + math.log(times - 1 + 2 ^ (u.f - s.t)) / math.log(2)
    end
    u.count = u.count + times - 1
    hit(g, s, id, u, now)
    redis.call('HSET', usage, id, format_usage(u))
    s.saved_ms = s.saved_ms + u.cost * times
    local key = redis.call('HGET', entries .. id, 'k')
    if key then emit(events, s, 'HIT', key, 'near cache, ' .. times .. ' times') end
  end
end
write_hot(usage, s)
return 1
