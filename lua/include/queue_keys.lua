-- The keys of a partition's warm-up queue, for the scripts that move tasks: slots 1 to 6, and `q`, which names them.
local state      = KEYS[1]  -- hash: shared config, counters
local queue      = KEYS[2]  -- stream: tasks that were asked for, and those of changed dependencies
local queue_low  = KEYS[3]  -- stream: predicted tasks and refreshes; read when `queue` has nothing
local tasks      = KEYS[4]  -- prefix of the tasks' hashes
local delayed    = KEYS[5]  -- zset: task -> when its next try is due (ms)
local dead       = KEYS[6]  -- zset: task -> when it was given up (ms)
local partitions = ARGV[1]  -- int: how many partitions this client believes in

local q = {high = queue, low = queue_low, tasks = tasks, delayed = delayed, dead = dead}
