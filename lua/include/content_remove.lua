-- drop(g, s, id): the entry goes for good. Returns its usage (nil if it had none).
-- g names the keys; s is the state, which the caller writes back. What its members are made of stands outside the
-- entry, so they are found even when the server has dropped the entry by itself.
local function drop(g, s, id)
  local text = redis.call('HGET', g.usage, id)
  local u = text and parse_usage(text)
  if u then
    s.bytes = s.bytes - u.size
    redis.call('HDEL', g.usage, id)
    if u.deadline > 0 then redis.call('ZREM', g.deadline, id) end
  end
  local index = redis.call('HGET', g.indexed, id)
  if index then
    redis.call('ZREM', g.prefixes, unpack(content_members(index, id)))
    redis.call('HDEL', g.indexed, id)
  end
  redis.call('ZREM', g.score, id)
  redis.call('UNLINK', g.entries .. id)
  return u
end
