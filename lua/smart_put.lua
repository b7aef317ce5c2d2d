-- Store an output.
-- Returns 1; 0 when this request took effect before; -1 when the cache could never hold it (older values go too).
--@include smart_keys
--@include smart_new

--@include smart_store
local s, used = read_state(usage, partitions, id)
if not s then return stale() end
if not redis.call('SET', requests .. request, '1', 'NX', 'PX', 60000) then return 0 end
local now, us = clock()
s.tick = math.max(us, s.tick + 1)
local stored, u = smart_store(g, s, new, now, used)
write_state(usage, s, id, u)
if not stored then redis.call('DEL', requests .. request) end
return stored and 1 or -1
