-- One step of a search for the most used entries. Returns {next cursor, {usage, key, metadata}, ...}: those of this
-- step that may be among the first `count`, given that `least` hits are needed; cursor '0' ends it.
local state      = KEYS[1]            -- hash: shared config
local usage      = KEYS[2]            -- hash: entry id -> use, size, cost, deadline
local entries    = KEYS[3]            -- prefix of the entries' hashes
local partitions = ARGV[1]            -- int: how many partitions this client believes in
local cursor     = ARGV[2]            -- where to go on
local step       = ARGV[3]            -- int: how many to look at
local count      = tonumber(ARGV[4])  -- int: how many are wanted in all
local least      = tonumber(ARGV[5])  -- int: hits an entry must have to be of interest

--@include clock
--@include stale
--@include usage
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local now = clock()
local scan = redis.call('HSCAN', usage, cursor, 'COUNT', step)
local found = {}
for i = 1, #scan[2], 2 do
  local hits = parse_usage(scan[2][i + 1]).count
  if hits >= least and scan[2][i] ~= '*' then found[#found + 1] = {hits, scan[2][i], scan[2][i + 1]} end
end
table.sort(found, function(a, b) return a[1] > b[1] end)
local reply = {scan[1]}
for _, one in ipairs(found) do
  if #reply > count then break end
  local entry = redis.call('HMGET', entries .. one[2], 'k', 'm')
  local due = parse_usage(one[3]).deadline
  if entry[1] and (due == 0 or due > now) then reply[#reply + 1] = {one[3], entry[1], entry[2]} end
end
return reply
