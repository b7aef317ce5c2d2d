-- A task needs no work (its output is cached, or its source is gone): take it off the queue. When its key was
-- invalidated since it was taken, that may not be so any more, and it is queued again. Returns 1, or 0 when the worker has
-- lost it meanwhile.
--@include queue_keys
local voided   = KEYS[7]  -- zset: key id -> fence at which it was invalidated
local is_low   = ARGV[2]  -- '1': the task came from `queue_low`
local entry    = ARGV[3]  -- its entry there
local task     = ARGV[4]  -- the task
local consumer = ARGV[5]  -- the worker
local fence    = ARGV[6]  -- that of the moment when it took the task

--@include stale
--@include queue_move
--@include void
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local stream = is_low == '1' and queue_low or queue
if not queue_owns(stream, entry, consumer) then return 0 end
if void_since(voided, fence, string.sub(task, 1, 16), '') then
  queue_again({high = stream, low = stream, tasks = tasks}, stream, entry, task, '')
  return 1
end
queue_pull(stream, entry)
if redis.call('HGET', tasks .. task, 'e') == entry then redis.call('UNLINK', tasks .. task) end
return 1
