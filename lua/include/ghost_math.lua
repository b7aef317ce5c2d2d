-- What a policy remembers of its victims and learns from those that return (see `ghost`), on numbers and texts alone.
--
-- ghost_kind(uses, mark): 1 if a victim had been used once in all, else 0.
-- ghost_text(f, kind, number): what is remembered of a victim; ghost_parse(text): the three again, nothing if there is none.
-- ghost_most(policy, capacity): how many keys one generation may hold: so many times C.
-- ghost_learn(policy, rate, p1, capacity, kind): the rate after the return of a victim of that kind. It had left too soon:
-- more recency (a wider window) if it was of the first kind, else less. The rarer of the two kinds counts for more.
local function ghost_kind(uses, mark)
  return uses == 0 and mark ~= 'r' and 1 or 0
end

local function ghost_text(f, kind, number)
  return string.format('%.17g %d %d', f, kind, number)
end

local function ghost_parse(text)
  local f, kind, number = string.match(text or '', '^(%S+) (%d) (%d+)$')
  return tonumber(f), tonumber(kind), tonumber(number)
end

local function ghost_most(policy, capacity)
  return (policy == 'windowed' and 2 or 1.25) * capacity
end

local function ghost_learn(policy, rate, p1, capacity, kind)
  local once, more = math.max(p1, 1e-9), math.max(1 - p1, 1e-9)
  local weight
  if kind == 1 then
    weight = math.max(1, math.min(20, more / once))
  else
    weight = -math.max(1, math.min(20, once / more))
  end
  if policy == 'windowed' then return math.max(1 / capacity, math.min(0.8, rate + weight / capacity)) end
  return math.max(policy == 'cost' and 0.5 or 0.2, math.min(2, rate * 2 ^ (weight * 4 / capacity)))
end
