-- hit(g, s, id, u, now, times): a use of an entry, or several, and its score. The caller writes `u`.
--@include use
local function hit(g, s, id, u, now, times)
  local points = use(g, s, id, u, now, times)
  if points then redis.call('ZADD', g.score, points, id) end
end
