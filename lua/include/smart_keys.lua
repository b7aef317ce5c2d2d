-- The keys of a SmartCache partition, for the scripts that may remove entries: slots 1 to 12, and `g`, which names them.
local state      = KEYS[1]   -- hash: shared config, clocks, counters
local score      = KEYS[2]   -- zset: entry id -> eviction priority
local usage      = KEYS[3]   -- hash: entry id -> use, size, cost, deadline
local deadline   = KEYS[4]   -- zset: entry id -> expiry (ms)
local ghost      = KEYS[5]   -- hash: keys evicted of late
local ghost_old  = KEYS[6]   -- hash: the generation before
local events     = KEYS[7]   -- stream: what happened
local edges      = KEYS[8]   -- hash: entry id -> ids of its dependencies
local relics     = KEYS[9]   -- zset: removed entries whose edges are kept -> tick
local entries    = KEYS[10]  -- prefix of the entries' hashes
local dependents = KEYS[11]  -- prefix of the sets of dependents
local versions   = KEYS[12]  -- prefix of the lists of older versions
local partitions = ARGV[1]   -- int: how many partitions this client believes in

local g = {
  score = score, usage = usage, deadline = deadline, ghost = ghost, ghost_old = ghost_old, events = events,
  edges = edges, relics = relics, entries = entries, dependents = dependents, versions = versions,
  partitions = tonumber(partitions),
}
