-- note(g, s, id, u, now, times): a use (or several) of one of the entries that a script is about; it is kept in g.uses, and
-- the score in g.points, until the end: what is written by one call costs least.
-- write_noted(g, s): the end.
--@include use
local function note(g, s, id, u, now, times)
  local points = use(g, s, id, u, now, times)
  if points then
    g.points[#g.points + 1] = points
    g.points[#g.points + 1] = id
  end
  g.uses[id] = u
end

local function write_noted(g, s)
  local records = {}
  for id, u in pairs(g.uses) do
    records[#records + 1] = id
    records[#records + 1] = format_usage(u)
  end
  if #g.points > 0 then redis.call('ZADD', g.score, unpack(g.points)) end
  write_hot(g.usage, s, unpack(records))
end
