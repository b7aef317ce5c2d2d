-- The policies' arithmetic, on numbers alone.
--
-- policy_life(policy): half a count is forgotten after so many times C requests; false where F does not count.
-- policy_step(by_bytes, capacity, bound_bytes, size): how far a request moves the clock: a C-th, or its share of the bytes.
-- policy_add(t, f, weight): F after an access (or several) of that weight, by the clock t.
-- policy_worth(cost, size): log2 of what a byte cost to make.
local function policy_life(policy)
  return (policy == 'adaptive' or policy == 'cost') and 16 or policy == 'windowed' and 8
end

local function policy_step(by_bytes, capacity, bound_bytes, size)
  return by_bytes and (size or 0) / bound_bytes or 1 / capacity
end

local function policy_add(t, f, weight)
  return t + math.log(weight + 2 ^ (f - t)) / math.log(2)
end

local function policy_worth(cost, size)
  return (math.log(math.max(cost, 1)) - math.log(math.max(size, 1))) / math.log(2)
end
