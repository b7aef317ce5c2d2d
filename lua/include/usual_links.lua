-- The edges of a usual put (see `edges`): it has the dependencies that the value it replaces had, or is new and no relic;
-- and no relic is left behind, nor goes. Statements like those of `usual_put`, which only read. Leaves
--   sets       the sets of dependents that name the key from now on, or go on doing so
--   linked     the dependencies of the key, and those of the victim, as they were
-- One call says that there are no edges, and no older versions.
local sets, linked = {}, {false, false}
if redis.call('EXISTS', edges, versions .. id) > 0 then
  linked = redis.call('HMGET', edges, id, loser)
  if redis.call('EXISTS', versions .. id) == 1 then break end
end
if links ~= '' or linked[1] then
  if links == '' or linked[1] ~= (used and links) or #links > 16000 then break end
  for at = 1, #links, 16 do sets[#sets + 1] = dependents .. string.sub(links, at, at + 15) end
  if used and redis.call('EXISTS', unpack(sets)) < #sets then break end  -- the server has dropped some
end
if victim and linked[2] then
  if partitions ~= '1' or redis.call('EXISTS', relics, dependents .. victim) > 0 then break end
  if string.find(links, victim, 1, true) then break end
end
