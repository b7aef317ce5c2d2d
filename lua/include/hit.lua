-- hit(g, s, id, u, now): one use of an entry: count, recency, score, and with sliding expiry a later deadline. The caller
-- writes `u` back.
local function hit(g, s, id, u, now)
  policy_request(s, 'hit', u.size)
  u.count = u.count + 1
  u.last = now
  policy_count(s, u)
  if s.sliding == 1 and u.ttl > 0 then
    u.deadline = now + u.ttl
    redis.call('ZADD', g.deadline, u.deadline, id)
    -- The key's own TTL is a safety net. Setting it looks like a change to a near cache, so it is set rarely.
    if redis.call('PTTL', g.entries .. id) < u.ttl + 60000 then
      redis.call('PEXPIRE', g.entries .. id, 2 * u.ttl + 120000)
    end
  end
  -- In the window, a use is counted and the order of arrival stays.
  if u.mark ~= 'w' or s.policy ~= 'windowed' then redis.call('ZADD', g.score, policy_score(s, u), id) end
end
