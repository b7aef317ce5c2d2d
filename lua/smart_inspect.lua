-- All that is known of a key but its output.
-- Returns {usage, hash, written (ms), metadata, bytes stored, id, hash, written, ... of each version}, latest first;
-- nothing when no version is there.
local state      = KEYS[1]  -- hash: shared config
local usage      = KEYS[2]  -- hash: entry id -> use, size, cost, deadline
local entries    = KEYS[3]  -- prefix of the entries' hashes
local versions   = KEYS[4]  -- list: ids of the hashes of older versions
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local id         = ARGV[2]  -- the key's id
local key        = ARGV[3]  -- the key itself

--@include clock
--@include stale
--@include usage
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local now = clock()
local reply = {}
local function add(one)
  local entry = redis.call('HMGET', entries .. one, 'h', 't', 'm', 'k')
  local used = redis.call('HGET', usage, one)
  if not used or entry[4] ~= key then return end
  local u = parse_usage(used)
  if u.deadline > 0 and u.deadline <= now then return end
  local stored = redis.call('HSTRLEN', entries .. one, 'o')
  reply[#reply + 1] = {used, entry[1], entry[2], entry[3], stored}
end
add(id)
for _, older in ipairs(redis.call('LRANGE', versions, 0, -1)) do add(id .. older) end
return reply
