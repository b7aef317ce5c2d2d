-- A worker stops: what it holds goes back to the queue, where others find it at once. Returns {how many, 1 if more are
-- left else 0}.
--@include queue_keys
local consumer = ARGV[2]  -- the worker
local limit    = ARGV[3]  -- int: tasks to hand back in this call, of each stream

--@include clock
--@include stale
--@include queue_move
--@include queue_return
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local now = clock()
local returned, more = 0, 0
for _, stream in ipairs({queue, queue_low}) do
  local pending = redis.pcall('XPENDING', stream, 'workers', '-', '+', limit, consumer)
  if not pending.err then
    for _, one in ipairs(pending) do
      local row = redis.call('XRANGE', stream, one[1], one[1])[1]
      if row then
        queue_return(q, stream, one[1], row[2][2], 'handed', now)
      else
        redis.call('XACK', stream, 'workers', one[1])
      end
      returned = returned + 1
    end
    if #pending == tonumber(limit) then more = 1 else redis.call('XGROUP', 'DELCONSUMER', stream, 'workers', consumer) end
  end
end
return {returned, more}
