-- The eviction policies. A score is static: written when a key is accessed, never scanned again; lowest goes first.
--
--   name      score after an access
--   adaptive  F + R: log2 of a decayed count, plus a recency clock whose speed R learns from what comes back
--   lru       the tick of the access
--   lru_freq  0.3 * hits + 0.001 * last access (s): the order of 0.3 * hits - 0.001 * idle seconds, made static
--
-- Time is counted in requests. A request is a get, or a put that no get came before; `asked` tells them apart.
local FREQUENCY_LIFE = 16  -- in cache sizes: requests after which a count weighs half

local function policy_request(s, kind)
  if kind == 'put' and s.asked == 1 then
    s.asked = 0
    return
  end
  s.asked = kind == 'get' and 1 or 0
  local step = 1 / s.capacity
  s.t = s.t + step / FREQUENCY_LIFE
  s.r = s.r + s.rate * step
end

-- policy_score(s, u): the score of an entry that is accessed now; u.count is up to date.
-- u.at (s) stands for the access's time where an entry was brought in from a file.
local function policy_score(s, u)
  if s.policy == 'lru' then return s.tick end
  if s.policy == 'lru_freq' then return 0.3 * u.count + 0.001 * (u.at or s.tick / 1000000) end
  u.f = s.t + math.log(1 + 2 ^ (u.f - s.t)) / math.log(2)
  return u.f + s.r
end

-- policy_new(s): the frequency of a key never seen before; its first policy_score() must give F = T.
local function policy_new(s) return s.t - 2000 end
