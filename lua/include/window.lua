-- The window of the policy `windowed`. Both parts live in `score`: an entry in the window has the mark 'w' and a
-- negative score, its tick - 2^53, which is their order of arrival; one in the main part has F, which is never negative.
--
-- window_passes(g, u): would the entry take the place of the least of the main part? Twice its decayed count is needed.
-- window_victim(g, s, incoming): the id of the entry to evict next. `incoming` is 1 if the one to come is for the window.
-- window_settle(g, s, incoming): while the window is too wide, its oldest move over, a bounded number of them.
local function window_least(g)
  local least = redis.call('ZRANGEBYSCORE', g.score, 0, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return least[1], tonumber(least[2])
end

local function window_passes(u, least)
  return not least or u.f > least + 1
end

-- The oldest of the window and its use, if the window is too wide.
local function window_over(g, s, incoming)
  s.inside = s.inside or redis.call('ZCOUNT', g.score, '-inf', '(0')
  local width = math.max(1, math.floor(s.rate * s.capacity + 1e-6))
  if s.inside == 0 or s.inside + incoming <= width then return nil end
  local oldest = redis.call('ZRANGE', g.score, 0, 0)[1]
  return oldest, parse_usage(redis.call('HGET', g.usage, oldest) or '')
end

local function window_move(g, s, id, u)
  u.mark = '-'
  redis.call('ZADD', g.score, math.max(0, u.f), id)
  redis.call('HSET', g.usage, id, format_usage(u))
  s.inside = s.inside - 1
end

local function window_victim(g, s, incoming)
  local least, f = window_least(g)
  local oldest, u = window_over(g, s, incoming)
  while oldest do
    if not window_passes(u, f) then
      s.inside = s.inside - 1
      return oldest
    end
    window_move(g, s, oldest, u)
    if least then return least end
    least, f = window_least(g)
    oldest, u = window_over(g, s, incoming)
  end
  if least then return least end
  s.inside = s.inside - 1
  return redis.call('ZRANGE', g.score, 0, 0)[1]
end

local function window_settle(g, s, incoming)
  for _ = 1, 32 do
    local oldest, u = window_over(g, s, incoming)
    if not oldest then return end
    window_move(g, s, oldest, u)
  end
end
