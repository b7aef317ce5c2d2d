-- `g`, which names the slots of smart_keys for the functions of the includes.
local g = {
  score = score, usage = usage, deadline = deadline, ghost = ghost, ghost_old = ghost_old, events = events,
  edges = edges, relics = relics, entries = entries, dependents = dependents, versions = versions,
  histories = histories, records = records, retired = retired, retired_old = retired_old,
  partitions = tonumber(partitions),
}
