-- The edges of a usual put, written: those of a new key come, those of the victim go (see `usual_links`). In this order,
-- so that an error on the way leaves nothing without its edges.
if not used and links ~= '' then
  for _, set in ipairs(sets) do redis.call('SADD', set, id) end
  redis.call('HSET', edges, id, links)
end
if victim and linked[2] then
  redis.call('HDEL', edges, victim)
  for at = 1, #linked[2], 16 do redis.call('SREM', dependents .. string.sub(linked[2], at, at + 15), victim) end
end
