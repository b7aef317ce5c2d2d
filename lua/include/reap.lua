-- reap(g, s, now, limit, spared): drop up to `limit` entries whose deadline has passed, but for the one that is being
-- replaced; returns how many had.
local function reap(g, s, now, limit, spared)
  local due = redis.call('ZRANGEBYSCORE', g.deadline, '-inf', now, 'LIMIT', 0, limit)
  for _, id in ipairs(due) do
    if id ~= spared then
      drop(g, s, id, 'expired')
      redis.call('ZREM', g.deadline, id)
      s.expirations = s.expirations + 1
    end
  end
  return #due
end
