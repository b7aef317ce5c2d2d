-- first_rate(policy): what s.rate starts with, which the policy learns.
local FIRST = {adaptive = 0.7, cost = 1, windowed = 0.1}
local function first_rate(policy)
  return FIRST[policy] or 0
end
