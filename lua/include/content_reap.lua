-- content_reap(g, s, now, limit): remove up to `limit` entries whose deadline has passed; returns how many.
local function content_reap(g, s, now, limit)
  local due = redis.call('ZRANGEBYSCORE', g.deadline, '-inf', now, 'LIMIT', 0, limit)
  for _, id in ipairs(due) do
    content_remove(g, s, id)
    redis.call('ZREM', g.deadline, id)
    s.expirations = s.expirations + 1
  end
  return #due
end
