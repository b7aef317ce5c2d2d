-- Dead letters get another life: tries are counted anew. Returns how many went back to the queue.
--@include queue_keys
local limit = tonumber(ARGV[2])    -- int: how many at most, if none are named
local named, named_at = ARGV, 3    -- list: tasks; none for all

--@include stale
--@include queue_move
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local chosen, returned = {}, 0
for i = named_at, #named do chosen[#chosen + 1] = named[i] end
if #chosen == 0 then chosen = redis.call('ZRANGE', dead, 0, limit - 1) end
for _, task in ipairs(chosen) do
  if redis.call('ZREM', dead, task) == 1 then
    redis.call('HSET', tasks .. task, 'a', 0)
    redis.call('HDEL', tasks .. task, 'n', 'o', 'p', 'd')
    queue_push(q, task, redis.call('HGET', tasks .. task, 'r'))
    returned = returned + 1
  end
end
return returned
