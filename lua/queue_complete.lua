-- A task is done: store its output, take it off the queue, tell. Refused when the worker has lost the task meanwhile.
-- When the key or something it depends on was invalidated since the task was taken, the output may be of before: it is
-- dropped, and the task queued again.
-- Returns 1 stored, 0 this request took effect before, -1 the cache could never hold it (the task stays), -2 refused, -3
-- queued again.
--@include smart_keys
--@include smart_new
local stream   = KEYS[17]  -- stream: where the task came from
local tasks    = KEYS[18]  -- prefix of the tasks' hashes
local state    = KEYS[19]  -- hash: shared config, rare counters
local voided   = KEYS[20]  -- zset: key id -> fence at which it was invalidated
local entry    = ARGV[14]  -- the task's entry in the stream
local task     = ARGV[15]  -- the task
local consumer = ARGV[16]  -- the worker
local reason   = ARGV[17]  -- why it was queued
local fence    = ARGV[18]  -- that of the moment when the worker took it

--@include smart_group
--@include smart_output
--@include smart_store
--@include queue_move
--@include void
local s, used = read_state(usage, partitions, id)
if not s then return stale() end
if not queue_owns(stream, entry, consumer) then
  return redis.call('EXISTS', requests .. request) == 1 and 0 or -2
end
if void_since(voided, fence, id, new.links) then
  queue_again({high = stream, low = stream, tasks = tasks}, stream, entry, task, reason)
  return -3
end
local now, us = clock()
redis.call('SET', requests .. request, '1', 'PX', 60000)
s.tick = math.max(us, s.tick + 1)
if reason == 'predicted' then new.origin = reason end
local stored, u = smart_store(g, s, new, now, used)
write_state(usage, s, id, u)
if not stored then
  redis.call('DEL', requests .. request)
  return -1
end
queue_pull(stream, entry)
redis.call('UNLINK', tasks .. task)
redis.call('HINCRBY', state, 'warmups', 1)
if reason == 'predicted' then redis.call('HINCRBY', state, 'warmed', 1) end
local what = {predicted = 'predictive', dependency = 'dependency', refresh = 'refresh', manual = 'manual'}
emit(events, s, 'WARMUP', key, string.format('%s warmup, time=%.0fms', what[reason] or 'manual', cost))
return 1
