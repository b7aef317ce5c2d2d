-- use(g, s, id, u, now, times): a use of an entry, or several: count, recency, and with sliding expiry a later deadline.
-- The caller writes `u`, and the score that is returned; nil: it stays as it is, because in the window a use is counted
-- and the order of arrival stays.
local function use(g, s, id, u, now, times)
  local before = s.t
  policy_request(s, 'hit', u.size, times)
  u.count = u.count + (times or 1)
  u.last = now
  policy_count(s, u, times, before)
  if s.sliding == 1 and u.ttl > 0 then
    u.deadline = now + u.ttl
    redis.call('ZADD', g.deadline, u.deadline, id)
    -- The key's own TTL is a safety net. Setting it looks like a change to a near cache, so it is set rarely.
    if redis.call('PTTL', g.entries .. id) < u.ttl + 60000 then
      redis.call('PEXPIRE', g.entries .. id, 2 * u.ttl + 120000)
    end
  end
  return (u.mark ~= 'w' or s.policy ~= 'windowed') and policy_score(s, u) or nil
end
