-- What the policies that count by F remember of keys that they evicted, and learn when one of them is put again.
-- Two generations of a hash id -> 'F kind number', so that forgetting is one UNLINK. `kind` is 1 if the victim had been
-- used once (windowed: was evicted from the window), `number` that of its eviction.
--
-- ghost_add(g, s, id, u): remember a victim.
-- ghost_recall(g, s, id, u, old): what is known of a key that is put goes into u.f and u.mark; `old` is the use of the
-- value it replaces. Counts the access. Marks: 'w' in the window; 'r' not the key's first use.
--@include ghost_math
--@include window
local function ghost_add(g, s, id, u)
  if not policy_life(s.policy) then return end
  local kind = ghost_kind(u.count, u.mark)
  if s.policy == 'windowed' then kind = u.mark == 'w' and 1 or 0 end
  s.p1 = s.p1 + (kind - s.p1) / s.capacity
  redis.call('HSET', g.ghost, id, ghost_text(u.f, kind, s.evictions))
  if redis.call('HLEN', g.ghost) >= ghost_most(s.policy, s.capacity) then
    redis.call('UNLINK', g.ghost_old)
    redis.call('RENAME', g.ghost, g.ghost_old)
  end
end

-- The F of a remembered key, which is forgotten with that; nil if it is not remembered.
local function ghost_take(g, s, id)
  for _, generation in ipairs({g.ghost, g.ghost_old}) do
    local f, kind, number = ghost_parse(redis.call('HGET', generation, id))
    if f then
      redis.call('HDEL', generation, id)
      if s.evictions - number <= s.capacity then s.rate = ghost_learn(s.policy, s.rate, s.p1, s.capacity, kind) end
      return f
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
