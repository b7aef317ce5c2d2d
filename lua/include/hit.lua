-- hit(g, s, id, u, now): one use of an entry, and its score. The caller writes `u`.
--@include use
local function hit(g, s, id, u, now)
  local points = use(g, s, id, u, now)
  if points then redis.call('ZADD', g.score, points, id) end
end
