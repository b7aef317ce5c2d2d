-- Keep tasks that run: their leases start anew, where this worker still holds them. Returns the entries that it has
-- lost.
--@include queue_keys
local consumer = ARGV[2]       -- the worker
local held, held_at = ARGV, 3  -- list: 1 for low else 0, entry, ...

--@include stale
--@include queue_move
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local lost = {}
for i = held_at, #held, 2 do
  local stream, entry = held[i] == '1' and queue_low or queue, held[i + 1]
  if queue_owns(stream, entry, consumer) then
    redis.call('XCLAIM', stream, 'workers', consumer, 0, entry, 'JUSTID')
  else
    lost[#lost + 1] = entry
  end
end
return lost
