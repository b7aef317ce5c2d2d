-- A worker says that it is alive, and what it does; workers that have not for a day are forgotten.
-- Returns the names of the forgotten.
local workers  = KEYS[1]            -- zset: worker -> last seen (ms)
local worker_records  = KEYS[2]            -- prefix of the workers' hashes
local worker   = ARGV[1]            -- its unique name
local alive_ms = tonumber(ARGV[2])  -- int: it counts as alive for so long; 0 when it leaves
local fields, fields_at = ARGV, 3   -- list: field, value, ...

--@include clock
local now = clock()
if alive_ms > 0 then
  redis.call('ZADD', workers, now, worker)
  redis.call('HSET', worker_records .. worker, 'seen', now, 'alive_ms', alive_ms)
  for i = fields_at, #fields, 2 do redis.call('HSET', worker_records .. worker, fields[i], fields[i + 1]) end
  redis.call('PEXPIRE', worker_records .. worker, 86400000)
else
  redis.call('ZREM', workers, worker)
  redis.call('UNLINK', worker_records .. worker)
end
local gone = redis.call('ZRANGEBYSCORE', workers, '-inf', now - 86400000, 'LIMIT', 0, 100)
for _, one in ipairs(gone) do redis.call('ZREM', workers, one) end
return gone
