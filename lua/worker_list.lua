-- The workers of the last day, the latest seen first: {now (ms), {name, field, value, ...}, ...}.
local workers = KEYS[1]  -- zset: worker -> last seen (ms)
local worker_records = KEYS[2]  -- prefix of the workers' hashes

--@include clock
local now = clock()
local reply = {now}
for _, worker in ipairs(redis.call('ZREVRANGE', workers, 0, 999)) do
  local row = redis.call('HGETALL', worker_records .. worker)
  table.insert(row, 1, worker)
  reply[#reply + 1] = row
end
return reply
