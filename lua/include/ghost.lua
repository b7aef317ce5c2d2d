-- What the policies that count by F remember of keys that they evicted, and learn when one of them is put again.
-- Two generations of a hash id -> 'F kind number', so that forgetting is one UNLINK. `kind` is 1 if the victim had been
-- used once (windowed: was evicted from the window), `number` that of its eviction.
--
-- ghost_add(g, s, id, u): remember a victim.
-- ghost_recall(g, s, id, u, old): what is known of a key that is put goes into u.f and u.mark; `old` is the use of the
-- value it replaces. Counts the access. Marks: 'w' in the window; 'r' not the key's first use.
--@include window
local GHOSTS = {adaptive = 1.25, cost = 1.25, windowed = 2}  -- keys in one generation, in C

local function ghost_add(g, s, id, u)
  if not policy_life(s.policy) then return end
  local kind
  if s.policy == 'windowed' then
    kind = u.mark == 'w' and 1 or 0
  else
    kind = u.count == 0 and u.mark ~= 'r' and 1 or 0
  end
  s.p1 = s.p1 + (kind - s.p1) / s.capacity
  redis.call('HSET', g.ghost, id, string.format('%.17g %d %d', u.f, kind, s.evictions))
  if redis.call('HLEN', g.ghost) >= GHOSTS[s.policy] * s.capacity then
    redis.call('UNLINK', g.ghost_old)
    redis.call('RENAME', g.ghost, g.ghost_old)
  end
end

-- The victim left too soon: more recency (a wider window) if it was of the first kind, else less. The rarer of the two
-- kinds counts for more.
local function ghost_learn(s, kind)
  local once, more = math.max(s.p1, 1e-9), math.max(1 - s.p1, 1e-9)
  local weight
  if kind == 1 then
    weight = math.max(1, math.min(20, more / once))
  else
    weight = -math.max(1, math.min(20, once / more))
  end
  if s.policy == 'windowed' then
    s.rate = math.max(1 / s.capacity, math.min(0.8, s.rate + weight / s.capacity))
  else
    local least = s.policy == 'cost' and 0.5 or 0.2
    s.rate = math.max(least, math.min(2, s.rate * 2 ^ (weight * 4 / s.capacity)))
  end
end

-- The F of a remembered key, which is forgotten with that; nil if it is not remembered.
local function ghost_take(g, s, id)
  for _, generation in ipairs({g.ghost, g.ghost_old}) do
    local f, kind, number = string.match(redis.call('HGET', generation, id) or '', '^(%S+) (%d) (%d+)$')
    if f then
      redis.call('HDEL', generation, id)
      if s.evictions - tonumber(number) <= s.capacity then ghost_learn(s, tonumber(kind)) end
      return tonumber(f)
    end
  end
end

local function ghost_recall(g, s, id, u, old)
  u.f, u.mark = s.t - 2000, '-'
  if not policy_life(s.policy) then return end
  local known = old and old.f or ghost_take(g, s, id)
  u.f = known or u.f
  policy_count(s, u)
  if s.policy ~= 'windowed' then
    u.mark = known and 'r' or '-'
  elseif not (old and old.mark ~= 'w') then
    local _, least
    if known then _, least = window_least(g) end
    u.mark = known and window_passes(u, least) and '-' or 'w'
  end
end

-- policy_victim(g, s, incoming): the id of the entry to evict next.
local function policy_victim(g, s, incoming)
  if s.policy == 'windowed' then return window_victim(g, s, incoming) end
  local least = redis.call('ZRANGE', g.score, 0, 0, 'WITHSCORES')
  if s.policy == 'gdsf' then s.r = tonumber(least[2]) end
  return least[1]
end
