-- Find an entry and leave no trace, for read-only clients and for has().
-- Returns what smart_reply says, or nothing.
local state      = KEYS[1]  -- hash: shared config
local usage      = KEYS[2]  -- hash: entry id -> use, size, cost, deadline
local entries    = KEYS[3]  -- prefix of the entries' hashes
local partitions = ARGV[1]  -- int: how many partitions this client believes in
local id         = ARGV[2]  -- the entry's id
local key        = ARGV[3]  -- the key itself
local wanted     = ARGV[4]  -- content hash asked for, '' for any
local wanted_id  = ARGV[5]  -- id of that hash among the older versions
local bare       = ARGV[6]  -- '1': do not send the output

--@include clock
--@include stale
--@include usage
--@include smart_find
--@include smart_reply
if redis.call('HGET', state, 'partitions') ~= partitions then return stale() end
local now = clock()
local found, u, entry, expires = smart_find({usage = usage, entries = entries}, id, key, wanted, wanted_id, now)
if not u then return nil end
if bare == '1' then entry[1] = found end
return smart_reply(id, found, u, entry, expires - now)
