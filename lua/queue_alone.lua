-- A suspect is about to run, and nothing beside it: should the worker die now, it is guilty. Returns 1, or 0 when the
-- worker has lost the task meanwhile.
--@include queue_keys
local is_low   = ARGV[2]  -- '1': the task came from `queue_low`
local entry    = ARGV[3]  -- its entry there
local task     = ARGV[4]  -- the task
local consumer = ARGV[5]  -- the worker

--@include stale
--@include queue_move
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
if not queue_owns(is_low == '1' and queue_low or queue, entry, consumer) then return 0 end
redis.call('HSET', tasks .. task, 'o', '1')
return 1
