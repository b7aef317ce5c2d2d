-- The keys of a ContentHashCache partition, for the scripts that may remove entries: slots 1 to 9, and `g`, which names
-- them.
local state      = KEYS[1]  -- hash: shared config, clocks, counters
local score      = KEYS[2]  -- zset: entry id -> eviction priority
local usage      = KEYS[3]  -- hash: entry id -> use, size, deadline
local deadline   = KEYS[4]  -- zset: entry id -> expiry (ms)
local ghost      = KEYS[5]  -- hash: entries evicted of late
local ghost_old  = KEYS[6]  -- hash: the generation before
local prefixes   = KEYS[7]  -- zset, scores 0: stretches of normalized text, each with its entry's id
local indexed    = KEYS[8]  -- hash: entry id -> what its members in `prefixes` are made of
local entries    = KEYS[9]  -- prefix of the entries' hashes
local partitions = ARGV[1]  -- int: how many partitions this client believes in

local g = {
  score = score, usage = usage, deadline = deadline, ghost = ghost, ghost_old = ghost_old, prefixes = prefixes,
  indexed = indexed, entries = entries,
}
