-- The eviction policies. A score is static: written when a key is accessed, never scanned again; lowest goes first.
--
--   adaptive  F + R: log2 of a decayed count, plus a recency clock whose speed is learned from what comes back
--   cost      F + R + log2(cost / size), on a clock of bytes where bytes bound the cache
--   windowed  F, behind a FIFO window: see `window`
--   gdsf      L + count * cost / size, L the last victim's score
--   lru       the tick of the access
--   lru_freq  0.3 * hits + 0.001 * last access (s): the order of 0.3 * hits - 0.001 * idle seconds, made static
--
-- policy_life (in `policy_math`) says which count by F. There s.t is the clock T; s.r the recency clock R, s.rate its speed,
-- which is learned (windowed: s.rate is the window's share of C); s.p1 the share of victims that had been used once
-- (windowed: that left the window). gdsf keeps L in s.r.
-- distcache/policies.py says the same in Python, with the sources; a test runs both on the same requests.
--@include policy_math

-- policy_request(s, kind, size, times): time goes on. It is counted in requests: a 'hit' (or several of one entry), a
-- 'miss', and a 'put' that answers no miss. A miss does not know its size, so the clock of bytes goes on when it is
-- answered.
local function policy_request(s, kind, size, times)
  local life = policy_life(s.policy)
  local counts, bytes = true, s.policy == 'cost' and s.capacity < s.bound_entries
  if kind == 'miss' then
    s.asked = math.min(s.asked + 1, 64)
  elseif kind == 'put' and s.asked > 0 then
    s.asked = s.asked - 1
    counts = bytes
  end
  if not (life and counts) then return end
  local step = policy_step(bytes, s.capacity, s.bound_bytes, size) * (times or 1)
  s.t = s.t + step / life
  s.r = s.r + s.rate * step
end

-- policy_count(s, u, times, before): the entry is accessed now; or was accessed several times while the clock went
-- evenly from `before` to now: the weights of the accesses are a geometric series. Where a step is so small that it would
-- be lost in 1 - 2^-step, that is step * ln 2.
local function policy_count(s, u, times, before)
  if not policy_life(s.policy) then return end
  local weight = times or 1
  if weight > 1 and s.t - before > 1e-8 then
    local step = (s.t - before) / times
    weight = (1 - 2 ^ (before - s.t)) / (step > 1e-8 and 1 - 2 ^ -step or step * math.log(2))
  end
  u.f = policy_add(s.t, u.f, weight)
end

-- policy_score(s, u): the score of an entry that was just accessed; u.count is up to date.
-- u.at (s) stands for the access's time where an entry was brought in from a file.
local function policy_score(s, u)
  if s.policy == 'adaptive' then return u.f + s.r end
  if s.policy == 'lru' then return s.tick end
  if s.policy == 'lru_freq' then return 0.3 * u.count + 0.001 * (u.at or s.tick / 1000000) end
  if s.policy == 'windowed' then return u.mark == 'w' and s.tick - 9007199254740992 or u.f end
  if s.policy == 'gdsf' then return s.r + (u.count + 1) * math.max(u.cost, 1) / math.max(u.size, 1) end
  return u.f + s.r + policy_worth(u.cost, u.size)
end
