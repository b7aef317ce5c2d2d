-- A task needs no work (its output is cached, or its source is gone): take it off the queue. Returns 1, or 0 when the
-- worker has lost it meanwhile.
--@include queue_keys
local is_low   = ARGV[2]  -- '1': the task came from `low`
local entry    = ARGV[3]  -- its entry there
local task     = ARGV[4]  -- the task
local consumer = ARGV[5]  -- the worker

--@include stale
--@include queue_move
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local stream = is_low == '1' and low or high
if not queue_owns(stream, entry, consumer) then return 0 end
queue_pull(stream, entry)
if redis.call('HGET', tasks .. task, 'e') == entry then redis.call('UNLINK', tasks .. task) end
return 1
