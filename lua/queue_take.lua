-- Hand tasks to a worker: those whose delay is over are queued first, then the urgent ones are read before the others.
-- A missing group is made again, from the beginning.
-- Returns {ms until the next delayed task is due or -1, {1 for low else 0, entry, task, key, hash, content, reason,
-- attempt, queued (ms), crashes, fence}, ...}.
--@include queue_keys
local consumer = ARGV[2]            -- the worker
local count    = tonumber(ARGV[3])  -- int: how many tasks it has room for
local which    = ARGV[4]            -- 'high', 'low' or 'both'
local held, held_at = ARGV, 5       -- list: entries it was given already: 1 for low else 0, entry, task, ...

--@include clock
--@include stale
--@include queue_move
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local now = clock()

for _, task in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 32)) do
  redis.call('ZREM', delayed, task)
  local reason = redis.call('HGET', tasks .. task, 'r')
  if reason then queue_push(q, task, reason) end
end
local due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
local reply = {due[2] and math.max(0, tonumber(due[2]) - now) or -1}

local function give(is_low, stream, entry, task)
  local t = redis.call('HMGET', tasks .. task, 'e', 'k', 'h', 'c', 'r', 'a', 'q', 'n')
  if t[1] == entry then
    reply[#reply + 1] = {is_low, entry, task, t[2], t[3], t[4], t[5], t[6], t[7], t[8] or '0'}
  else
    queue_pull(stream, entry)
  end
end

for i = held_at, #held, 3 do give(tonumber(held[i]), held[i] == '1' and queue_low or queue, held[i + 1], held[i + 2]) end
for is_low = 0, 1 do
  local stream = is_low == 1 and queue_low or queue
  local room = count - (#reply - 1)
  if room > 0 and (which == 'both' or which == (is_low == 1 and 'low' or 'high')) then
    local read = redis.pcall('XREADGROUP', 'GROUP', 'workers', consumer, 'COUNT', room, 'STREAMS', stream, '>')
    if read and read.err then
      redis.pcall('XGROUP', 'CREATE', stream, 'workers', '0', 'MKSTREAM')
      read = redis.call('XREADGROUP', 'GROUP', 'workers', consumer, 'COUNT', room, 'STREAMS', stream, '>')
    end
    -- fakeredis leaves out the outer list.
    local rows = read and (type(read[1]) == 'table' and read[1][2] or read[2]) or {}
    for _, row in ipairs(rows) do give(is_low, stream, row[1], row[2][2]) end
  end
end
if #reply > 1 then
  local fence = redis.call('HINCRBY', state, 'fence', 1)
  for i = 2, #reply do reply[i][11] = fence end
end
return reply
