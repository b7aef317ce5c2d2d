-- A try has failed: the task waits for its next one, or is given up. Refused when the worker has lost it meanwhile.
-- Returns 1, or 0 when refused.
--@include queue_keys
local is_low    = ARGV[2]  -- '1': the task came from `queue_low`
local entry     = ARGV[3]  -- its entry there
local task      = ARGV[4]  -- the task
local consumer  = ARGV[5]  -- the worker
local delay_ms  = ARGV[6]  -- int: until the next try, '' to give it up
local problem   = ARGV[7]  -- what went wrong, in a line
local traceback = ARGV[8]  -- and where

--@include clock
--@include stale
--@include queue_move
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local stream = is_low == '1' and queue_low or queue
if not queue_owns(stream, entry, consumer) then return 0 end
local now = clock()
queue_pull(stream, entry)
local this = tasks .. task
if redis.call('HGET', this, 'e') ~= entry then return 0 end
redis.call('HINCRBY', this, 'a', 1)
redis.call('HDEL', this, 'n', 'o', 'p')
redis.call('HSET', this, 'x', problem, 'b', traceback)
redis.call('HINCRBY', state, 'task_failures', 1)
if delay_ms == '' then
  queue_bury(q, task, now, 1000)
else
  redis.call('HSET', this, 'e', '')
  redis.call('ZADD', delayed, now + tonumber(delay_ms), task)
end
return 1
