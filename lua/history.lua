-- The records of a key's compiles, newest first, and which of their outputs are held: {{record, 1 or 0}, ...}.
local state      = KEYS[1]            -- hash: shared config
local records    = KEYS[2]            -- list: the records
local entries    = KEYS[3]            -- prefix of the entries' hashes
local versions   = KEYS[4]            -- list: ids of the hashes of older versions
local partitions = ARGV[1]            -- int: how many partitions this client believes in
local id         = ARGV[2]            -- the key's id
local count      = tonumber(ARGV[3])  -- int: how many at most

--@include clock
--@include stale
local known = redis.call('HMGET', state, 'partitions', 'history_age_ms')
if known[1] ~= partitions then return stale() end
local held = {}
local function hold(one)
  local written = redis.call('HGET', entries .. one, 'w')
  if written then held[tonumber(written)] = true end
end
hold(id)
for _, older in ipairs(redis.call('LRANGE', versions, 0, -1)) do hold(id .. older) end

local oldest = clock() - tonumber(known[2])
local reply = {}
for _, record in ipairs(redis.call('LRANGE', records, 0, count - 1)) do
  local tick, written = string.match(record, '^(%S+) (%S+) ')
  if (tonumber(written) or -math.huge) >= oldest then
    reply[#reply + 1] = {record, held[tonumber(tick)] and 1 or 0}
  end
end
return reply
