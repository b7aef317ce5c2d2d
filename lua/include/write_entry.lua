-- write_entry(entry, field, value, ...): write fields of an entry's hash, also where another program has put something else
-- in its place.
local function write_entry(entry, ...)
  local written = redis.pcall('HSET', entry, ...)
  if type(written) ~= 'table' then return end
  if string.find(written.err, 'WRONGTYPE', 1, true) then redis.call('UNLINK', entry) end
  redis.call('HSET', entry, ...)
end
