-- uses(g, s, id, times, now): so many uses of an entry at once, which a near cache answered. Returns its use, written
-- already; nil if it is gone by now.
local function uses(g, s, id, times, now)
  local used = redis.call('HGET', g.usage, id)
  local u = used and parse_usage(used)
  if not (u and (u.deadline == 0 or u.deadline > now)) then return nil end
  hit(g, s, id, u, now, times)
  redis.call('HSET', g.usage, id, format_usage(u))
  return u
end
