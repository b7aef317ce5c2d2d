-- The keys of a ContentHashCache partition, for the scripts that may remove entries: slots 1 to 6.
local score      = KEYS[1]  -- zset: entry id -> eviction priority
local usage      = KEYS[2]  -- hash: entry id -> use, size, deadline; and the state
local deadline   = KEYS[3]  -- zset: entry id -> expiry (ms)
local prefixes   = KEYS[4]  -- zset, scores 0: stretches of normalized text, each with its entry's id
local indexed    = KEYS[5]  -- hash: entry id -> what its members in `prefixes` are made of
local entries    = KEYS[6]  -- prefix of the entries' hashes
local partitions = ARGV[1]  -- int: how many partitions this client believes in
