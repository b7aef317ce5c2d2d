-- One step of giving every entry a score of the policy that the cache has now. Until the last step some scores are of
-- the policy before, which is an order of eviction too. Any client may take the next step: the cursor is in the state.
-- Returns {entries looked at, 1 if there is more to do else 0}.
local state      = KEYS[1]  -- hash: shared config
local score      = KEYS[2]  -- zset: entry id -> eviction priority
local usage      = KEYS[3]  -- hash: entry id -> use, size, cost, deadline
local ghost      = KEYS[4]  -- hash: keys evicted of late
local ghost_old  = KEYS[5]  -- hash: the generation before
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local limit      = ARGV[2]  -- int: about how many entries to look at in this call

--@include clock
--@include stale
--@include write_state
--@include policy
--@include first_rate
local s = read_state(usage, partitions)
if not s then return stale() end
local pass = redis.call('HMGET', state, 'scored', 'rescoring', 'rescored', 'span_ms')
if pass[1] == s.policy then return {0, 0} end
local now, us = clock()
s.tick = math.max(us, s.tick + 1)
local cursor, span = pass[3], tonumber(pass[4])
if pass[2] ~= s.policy then
  -- What the policy before has learned means nothing to this one. Ages are measured by that of the next victim.
  local oldest = redis.call('HGET', usage, redis.call('ZRANGE', score, 0, 0)[1] or '')
  cursor, span = '0', math.max(1, now - (oldest and parse_usage(oldest).last or now))
  s.r, s.rate, s.p1 = 0, first_rate(s.policy), 0.5
  redis.call('UNLINK', ghost, ghost_old)
end

local scan = redis.call('HSCAN', usage, cursor, 'COUNT', limit)
for i = 1, #scan[2], 2 do
  local id, u = scan[2][i], parse_usage(scan[2][i + 1])
  local age = s.rate * math.min(1, math.max(0, now - u.last) / span)
  local recency = s.policy == 'gdsf' and s.r or s.r - age
  -- Some policies do not keep F; what they leave behind is far below any clock.
  if u.f < s.t - 1000 then u.f = s.t + math.log(1 + u.count) / math.log(2) end
  u.mark, u.at = '-', u.last / 1000
  local points = policy_score({policy = s.policy, tick = u.last * 1000, r = recency}, u)
  if id ~= '*' then
    redis.call('ZADD', score, 'XX', points, id)
    redis.call('HSET', usage, id, format_usage(u))
  end
end
local done = scan[1] == '0'
redis.call('HSET', state, 'scored', done and s.policy or pass[1] or '', 'rescoring', done and '' or s.policy,
  'rescored', scan[1], 'span_ms', span)
write_state(usage, s)
return {#scan[2] / 2, done and 0 or 1}
