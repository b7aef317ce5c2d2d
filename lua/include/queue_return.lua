-- queue_return(q, stream, entry, task, how, now): a task whose worker will not finish it goes back to the end of its
-- stream. how: 'handed' by a worker that stops; 'crashed' when a worker fell silent with it. A crash says nothing
-- about who is guilty; so what crashed twice runs alone from then on, and only what crashes alone, twice, is given up.
local function queue_return(q, stream, entry, task, how, now)
  queue_pull(stream, entry)
  local hash = q.tasks .. task
  local known = redis.call('HMGET', hash, 'e', 'r', 'o')
  if known[1] ~= entry then return false end
  if how == 'crashed' then
    redis.call('HINCRBY', hash, 'n', 1)
    if known[3] then
      if redis.call('HINCRBY', hash, 'p', 1) >= 2 then
        redis.call('HSET', hash, 'x', 'the worker process died each time it ran this task, and nothing else', 'b', '')
        queue_bury(q, task, now, 1000)
        return true
      end
      redis.call('HDEL', hash, 'o')
    end
  end
  queue_push(q, task, known[2])
  return true
end
