-- The records of a key's compiles, newest first, and which of their outputs are held: {{record, 1 or 0}, ...}.
local state       = KEYS[1]            -- hash: shared config
local usage       = KEYS[2]            -- hash: entry id -> use, size, cost, deadline
local records     = KEYS[3]            -- list: the records of earlier compiles
local retired     = KEYS[4]            -- hash: keys that have gone -> record
local retired_old = KEYS[5]            -- hash: the generation before
local entries     = KEYS[6]            -- prefix of the entries' hashes
local versions    = KEYS[7]            -- list: ids of the hashes of older versions
local partitions  = ARGV[1]            -- int: how many partitions this client believes in
local id          = ARGV[2]            -- the key's id
local count       = tonumber(ARGV[3])  -- int: how many at most

--@include clock
--@include stale
--@include usage
--@include record
local known = redis.call('HMGET', state, 'partitions', 'history_age_ms', 'history')
if known[1] ~= partitions then return stale() end
local oldest = clock() - tonumber(known[2])
count = math.min(count, tonumber(known[3]))
local reply = {}
local function show(record, held)
  local written = record and string.match(record, '^%S+ (%S+) ')
  if #reply < count and (tonumber(written) or -math.huge) >= oldest then reply[#reply + 1] = {record, held} end
end

local held = {}
for _, older in ipairs(redis.call('LRANGE', versions, 0, -1)) do
  held[redis.call('HGET', entries .. id .. older, 'w') or ''] = 1
end
local used = redis.call('HGET', usage, id)
if used then
  local u = parse_usage(used)
  show(format_record(u.cost, u.size, redis.call('HMGET', entries .. id, 'h', 't', 'w', 'm')), 1)
end
-- Where another program has put something else, there are none.
for _, record in ipairs(redis.pcall('LRANGE', records, 0, math.max(count, 1) - 1)) do
  show(record, held[string.match(record, '^%S+')] or 0)
end
for _, generation in ipairs({retired, retired_old}) do
  local record = redis.pcall('HGET', generation, id)
  if type(record) == 'string' then show(record, 0) end
end
return reply
