-- The keys of a SmartCache partition, for the scripts that may remove entries: slots 1 to 15.
local score       = KEYS[1]   -- zset: entry id -> eviction priority
local usage       = KEYS[2]   -- hash: entry id -> use, size, cost, deadline; and the state
local deadline    = KEYS[3]   -- zset: entry id -> expiry (ms)
local ghost       = KEYS[4]   -- hash: keys evicted of late
local ghost_old   = KEYS[5]   -- hash: the generation before
local events      = KEYS[6]   -- stream: what happened
local edges       = KEYS[7]   -- hash: entry id -> ids of its dependencies
local relics      = KEYS[8]   -- zset: removed entries whose edges are kept -> tick
local entries     = KEYS[9]   -- prefix of the entries' hashes
local dependents  = KEYS[10]  -- prefix of the sets of dependents
local versions    = KEYS[11]  -- prefix of the lists of older versions
local histories   = KEYS[12]  -- zset: key id -> last record
local records     = KEYS[13]  -- prefix of the lists of records
local retired     = KEYS[14]  -- hash: keys that have gone -> record
local retired_old = KEYS[15]  -- hash: the generation before
local partitions  = ARGV[1]   -- int: how many partitions this client believes in
