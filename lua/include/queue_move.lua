-- Where a task is: in one of the streams (waiting, or pending at a worker), in `delayed`, or in `dead`. Its hash says
-- what it is, and in `e` which stream entry stands for it: any other entry that names it is void. A new entry for
-- every move is also the fencing token: who holds an old one has lost the task.
--
-- queue_push(q, task, reason): append a task to the stream of its reason.
-- queue_pull(stream, entry): take an entry out of its stream, and out of the pending list.
-- queue_again(q, stream, entry, task, reason): to the end of the same stream, if the entry still stands for the task.
-- queue_owns(stream, entry, consumer): whether this worker still holds the entry.
-- queue_bury(q, task, now, kept): give a task up; only the newest `kept` dead letters stay.
local function queue_push(q, task, reason)
  local stream = (reason == 'predicted' or reason == 'refresh') and q.low or q.high
  redis.call('HSET', q.tasks .. task, 'e', redis.call('XADD', stream, '*', 't', task))
end

local function queue_pull(stream, entry)
  redis.call('XACK', stream, 'workers', entry)
  redis.call('XDEL', stream, entry)
end

local function queue_again(q, stream, entry, task, reason)
  queue_pull(stream, entry)
  if redis.call('HGET', q.tasks .. task, 'e') == entry then queue_push(q, task, reason) end
end

local function queue_owns(stream, entry, consumer)
  local pending = redis.pcall('XPENDING', stream, 'workers', entry, entry, 1)
  return not pending.err and pending[1] ~= nil and pending[1][2] == consumer
end

local function queue_bury(q, task, now, kept)
  redis.call('HSET', q.tasks .. task, 'e', '', 'd', now)
  redis.call('PERSIST', q.tasks .. task)
  redis.call('ZADD', q.dead, now, task)
  local over = redis.call('ZCARD', q.dead) - kept
  if over > 0 then
    for _, oldest in ipairs(redis.call('ZRANGE', q.dead, 0, over - 1)) do
      redis.call('ZREM', q.dead, oldest)
      redis.call('UNLINK', q.tasks .. oldest)
    end
  end
end
