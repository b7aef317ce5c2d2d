-- Tasks: those that wait or run, those whose next try is delayed, or those that were given up.
-- Returns {{task, where, key, hash, reason, attempt, queued (ms), problem, traceback, given up (ms), worker}, ...}.
--@include queue_keys
local which = ARGV[2]            -- 'waiting', 'delayed' or 'dead'
local count = tonumber(ARGV[3])  -- int: how many at most

--@include stale
--@include queue_group
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local reply = {}
local function show(task, where, worker)
  local t = redis.call('HMGET', tasks .. task, 'k', 'h', 'r', 'a', 'q', 'x', 'b', 'd')
  if t[1] then
    reply[#reply + 1] = {task, where, t[1], t[2], t[3], t[4], t[5], t[6] or '', t[7] or '', t[8] or '0', worker}
  end
end

if which == 'waiting' then
  for _, stream in ipairs({queue, queue_low}) do
    local owners = {}
    if queue_group(stream) then
      local pending = redis.call('XPENDING', stream, 'workers', '-', '+', count)
      for _, one in ipairs(pending) do owners[one[1]] = one[2] end
    end
    for _, row in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', math.max(0, count - #reply))) do
      show(row[2][2], owners[row[1]] and 'running' or 'waiting', owners[row[1]] or '')
    end
  end
elseif which == 'delayed' then
  for _, task in ipairs(redis.call('ZRANGE', delayed, 0, count - 1)) do show(task, 'delayed', '') end
else
  for _, task in ipairs(redis.call('ZREVRANGE', dead, 0, count - 1)) do show(task, 'dead', '') end
end
return reply
