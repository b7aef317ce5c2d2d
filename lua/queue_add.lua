-- Queue one task, unless its key and content hash wait, run, or are cached already.
-- Returns 1 queued, 0 waits or runs already, -1 cached, -2 refused: too many wait, or it was given up before.
--@include queue_keys
local usage     = KEYS[7]            -- hash: entry id -> use, size, cost, deadline
local entries   = KEYS[8]            -- prefix of the entries' hashes
local events    = KEYS[9]            -- stream: what happened
local predicted = KEYS[10]           -- zset: key id -> when it was predicted (ms)
local request   = ARGV[2]            -- id of this request; a repeat carries the same
local id        = ARGV[3]            -- the key's id
local key       = ARGV[4]            -- the key itself
local hash      = ARGV[5]            -- content hash of the source, '' if the worker is to find out
local hash_id   = ARGV[6]            -- its id among versions
local content   = ARGV[7]            -- the encoded source, '' if the worker is to find it
local reason    = ARGV[8]            -- manual, dependency, predicted or refresh
local details   = ARGV[9]            -- for the event
local bound     = tonumber(ARGV[10]) -- int: with so many tasks waiting, predicted ones are refused

--@include clock
--@include stale
--@include emit
--@include usage
--@include smart_find
--@include queue_move
local s = redis.call('HMGET', state, 'partitions', 'events', 'event_cap')
if s[1] ~= partitions then return stale() end
local now = clock()
local task = id .. hash_id
local this = tasks .. task
local urgent = reason == 'manual' or reason == 'dependency'

if reason ~= 'refresh' then
  local _, u = smart_find({usage = usage, entries = entries}, id, key, hash, hash_id, now)
  if u then return -1 end
end
if reason == 'predicted' then
  redis.call('ZADD', predicted, now, id)
  redis.call('ZREMRANGEBYRANK', predicted, 0, -10001)
  redis.call('PEXPIRE', predicted, 3600000)
end

local known = redis.call('HMGET', this, 'e', 'r', 'i')
if known[1] == '' and redis.call('ZSCORE', dead, task) then
  if not urgent then return -2 end
  redis.call('ZREM', dead, task)
elseif known[1] == '' and redis.call('ZSCORE', delayed, task) then
  return 0
elseif known[1] then
  local stream = (known[2] == 'predicted' or known[2] == 'refresh') and queue_low or queue
  if #redis.call('XRANGE', stream, known[1], known[1]) > 0 then
    if known[3] == request then return 1 end
    local pending = redis.pcall('XPENDING', stream, 'workers', known[1], known[1], 1)
    if urgent and stream == queue_low and (pending.err or #pending == 0) then
      -- It was predicted and now it is asked for: it moves up.
      queue_pull(stream, known[1])
      if content ~= '' then redis.call('HSET', this, 'h', hash, 'c', content) end
      redis.call('HSET', this, 'r', reason)
      redis.call('PERSIST', this)
      queue_push(q, task, reason)
    end
    return 0
  end
end
if reason == 'predicted' and redis.call('XLEN', queue) + redis.call('XLEN', queue_low) >= bound then
  -- Where no worker takes predicted tasks, those that nobody wants any more make room.
  for _, row in ipairs(redis.call('XRANGE', queue_low, '-', '+', 'COUNT', 16)) do
    if redis.call('EXISTS', tasks .. row[2][2]) == 0 then queue_pull(queue_low, row[1]) end
  end
  if redis.call('XLEN', queue) + redis.call('XLEN', queue_low) >= bound then return -2 end
end

redis.call('UNLINK', this)
redis.call('HSET', this, 'k', key, 'h', hash, 'c', content, 'r', reason, 'a', 0, 'q', now, 'i', request)
-- What was likely ten minutes ago is not any more.
if not urgent then redis.call('PEXPIRE', this, 600000) end
queue_push(q, task, reason)
redis.call('HINCRBY', state, reason == 'predicted' and 'predicted' or 'queued', 1)
if reason == 'predicted' then emit(events, {events = s[2], event_cap = s[3]}, 'PREDICT', key, details) end
return 1
