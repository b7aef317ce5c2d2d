-- What the queue holds: {in `queue`, in `queue_low`, of those with a worker, delayed, dead, ms since the oldest was queued}.
--@include queue_keys

--@include clock
--@include stale
--@include queue_group
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local now = clock()
local running, oldest = 0, now
for _, stream in ipairs({queue, queue_low}) do
  if queue_group(stream) then running = running + tonumber(redis.call('XPENDING', stream, 'workers')[1]) end
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  local queued = first and redis.call('HGET', tasks .. first[2][2], 'q')
  if queued then oldest = math.min(oldest, tonumber(queued)) end
end
return {
  redis.call('XLEN', queue), redis.call('XLEN', queue_low), running, redis.call('ZCARD', delayed), redis.call('ZCARD', dead),
  now - oldest,
}
