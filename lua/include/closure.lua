-- direct(g, roots): the ids of what names one of the roots as a dependency.
-- closure(g, roots): the ids of all that depends on the roots, through any number of steps, nearest first. Cycles are
-- walked once; a root is in it only if it depends on a root.
local function expand(g, root, seen, found)
  for _, id in ipairs(redis.call('SMEMBERS', g.dependents .. string.sub(root, 1, 16))) do
    if not seen[id] then
      seen[id] = true
      found[#found + 1] = id
    end
  end
end

local function direct(g, roots)
  local seen, found = {}, {}
  for _, root in ipairs(roots) do expand(g, root, seen, found) end
  return found
end

local function closure(g, roots)
  local seen = {}
  local found = direct(g, roots)
  for _, id in ipairs(found) do seen[id] = true end
  local at = 1
  while found[at] do
    expand(g, found[at], seen, found)
    at = at + 1
  end
  return found
end
