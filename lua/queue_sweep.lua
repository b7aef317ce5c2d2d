-- One step through what is pending: tasks whose lease is over, since their worker died or was frozen, go back to the
-- queue. The step is bounded, however long the list; the cursor goes on where the last one ended.
-- Returns {next cursor of `queue`, of `queue_low`, how many went back}.
--@include queue_keys
local consumer    = ARGV[2]  -- the worker that sweeps
local lease_ms    = ARGV[3]  -- int: how long a task may go without being renewed
local limit       = ARGV[4]  -- int: tasks to take back in this call; ten times as many are looked at
local high_cursor = ARGV[5]  -- where to go on in `high`
local low_cursor  = ARGV[6]  -- and in `low`

--@include clock
--@include stale
--@include queue_move
--@include queue_return
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local now = clock()
local returned = 0
local function sweep(stream, cursor)
  local found = redis.pcall('XAUTOCLAIM', stream, 'workers', consumer, lease_ms, cursor, 'COUNT', limit, 'JUSTID')
  if found.err then return '0-0' end
  for _, entry in ipairs(found[2]) do
    local row = redis.call('XRANGE', stream, entry, entry)[1]
    if row and queue_return(q, stream, entry, row[2][2], 'crashed', now) then returned = returned + 1 end
  end
  return found[1]
end
return {sweep(queue, high_cursor), sweep(queue_low, low_cursor), returned}
