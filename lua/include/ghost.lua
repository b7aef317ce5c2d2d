-- What the adaptive policy remembers of keys that it evicted, and learns when one of them is put again.
-- ghost_add(ghost, old, s, id, u): remember a victim. Two generations, so that forgetting is one UNLINK.
-- ghost_recall(ghost, old, s, id): the frequency of a remembered key, else that of a new one. Its return says that it
-- left too soon: recency weighs more if it had been used once, frequency if more often; the rarer of the two kinds of
-- victim (p1: the share used once) counts for more.
local function ghost_add(ghost, old, s, id, u)
  if s.policy ~= 'adaptive' then return end
  local once = u.count == 0 and 1 or 0
  s.p1 = s.p1 + (once - s.p1) / s.capacity
  redis.call('HSET', ghost, id, string.format('%.17g %d %d', u.f, u.count, s.evictions))
  if redis.call('HLEN', ghost) >= s.capacity then
    redis.call('UNLINK', old)
    redis.call('RENAME', ghost, old)
  end
end

local function ghost_learn(s, count)
  local once = math.max(s.p1, 1e-9)
  local more = math.max(1 - s.p1, 1e-9)
  local weight = count == 0 and more / once or -once / more
  local step = math.max(1, math.min(20, math.abs(weight))) * 4 / s.capacity
  if weight < 0 then step = -step end
  s.rate = math.max(0.2, math.min(2, s.rate * 2 ^ step))
end

local function ghost_recall(ghost, old, s, id)
  if s.policy ~= 'adaptive' then return policy_new(s) end
  local remembered = redis.call('HGET', ghost, id) or redis.call('HGET', old, id)
  if not remembered then return policy_new(s) end
  redis.call('HDEL', ghost, id)
  redis.call('HDEL', old, id)
  local f, count, number = string.match(remembered, '^(%S+) (%d+) (%d+)$')
  if s.evictions - tonumber(number) <= s.capacity then ghost_learn(s, tonumber(count)) end
  return tonumber(f)
end
