-- uses(g, s, id, times, now): so many uses of an entry at once, which a near cache answered. Returns its use, written
-- already; nil if it is gone by now.
local function uses(g, s, id, times, now)
  local used = redis.call('HGET', g.usage, id)
  local u = used and parse_usage(used)
  if not (u and (u.deadline == 0 or u.deadline > now)) then return nil end
  -- All but one at once: what a decayed count gains by so many uses, and the clocks by so many requests.
  for _ = 2, math.min(times, 1000) do policy_request(s, 'hit', u.size) end
  if times > 1 and policy_life(s) then u.f = s.t + math.log(times - 1 + 2 ^ (u.f - s.t)) / math.log(2) end
  u.count = u.count + times - 1
  hit(g, s, id, u, now)
  redis.call('HSET', g.usage, id, format_usage(u))
  return u
end
