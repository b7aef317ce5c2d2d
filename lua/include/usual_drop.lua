-- The first writes of a usual put, which read on where `usual_put` ends: what was remembered of the key is forgotten, and
-- the victim, if there is one, goes and is remembered.
if known then redis.call('HDEL', known, id) end
if victim then
  redis.call('HDEL', usage, victim)
  if gone_due > 0 then redis.call('ZREM', deadline, victim) end
  redis.call('ZREM', score, victim)
  redis.call('UNLINK', entries .. victim)
end
if remembered then
  redis.call('HSET', ghost, victim, remembered)
  if redis.call('HLEN', ghost) >= ghosts then
    redis.call('UNLINK', ghost_old)
    redis.call('RENAME', ghost, ghost_old)
  end
end
