-- Store an output: replace or keep older versions, evict what must go, index, record, tell.
-- Returns 1; 0 when this request took effect before; -1 when the cache could never hold it (older values go too).
--@include smart_keys
local requests  = KEYS[13]            -- prefix of the marks of requests that took effect
local histories = KEYS[14]            -- zset: key id -> last write
local records   = KEYS[15]            -- prefix of the lists of records
local request   = ARGV[2]             -- id of this request; a repeat carries the same
local id        = ARGV[3]             -- the key's id
local key       = ARGV[4]             -- the key itself
local hash      = ARGV[5]             -- content hash of the source
local hash_id   = ARGV[6]             -- its id among versions
local output    = ARGV[7]             -- the encoded value
local size      = tonumber(ARGV[8])   -- int: bytes of the output
local cost      = tonumber(ARGV[9])   -- ms: compile time
local meta      = ARGV[10]            -- msgpack: dependencies, file, lines
local record    = ARGV[11]            -- msgpack: the history record
local links     = ARGV[12]            -- ids of the dependencies, 16 bytes each
local ttl_ms    = ARGV[13]            -- int: time to live, '' for the cache's own, 0 for ever
local imported  = ARGV[14]            -- '' or 'count last_ms written_ms', the past of an entry from a file

--@include clock
--@include state
--@include stale
--@include emit
--@include usage
--@include policy
--@include ghost
--@include edges
--@include smart_remove
--@include smart_reap
--@include smart_evict
--@include closure
--@include forget_relics
--@include demote
--@include record
local s = read_state(state, partitions)
if not s then return stale() end
if not redis.call('SET', requests .. request, '1', 'NX', 'PX', 60000) then return 0 end
local now, us = clock()
s.tick = math.max(us, s.tick + 1)
policy_request(s, 'put')
smart_reap(g, s, now, 8)
if size > s.bound_bytes then
  smart_drop_key(g, s, id, 'replaced by a value over the limit')
  write_state(state, s)
  return -1
end

local f = nil
local before = redis.call('HGET', entries .. id, 'h')
if before and before ~= hash and s.versions > 1 then
  demote(g, id)
else
  local old = smart_remove(g, s, id)
  f = old and old.f
end
if redis.call('EXISTS', entries .. id .. hash_id) == 1 then smart_drop(g, s, id .. hash_id, 'replaced') end
trim_versions(g, s, id, s.versions - 1)
smart_evict(g, s, 1, size, 1000000)

local u = {count = 0, last = now, size = size, cost = cost, deadline = 0}
local written = now
u.f = f or ghost_recall(ghost, ghost_old, s, id)
u.ttl = ttl_ms == '' and s.ttl_ms or tonumber(ttl_ms)
if imported ~= '' then
  local count, last, at = string.match(imported, '^(%d+) (%d+) (%d+)$')
  u.count, u.last, written = tonumber(count), tonumber(last), tonumber(at)
  u.at = u.last / 1000
end
redis.call('HSET', entries .. id, 'k', key, 'h', hash, 'i', hash_id, 'o', output, 'm', meta, 't', written, 'w', s.tick)
if u.ttl > 0 then
  u.deadline = now + u.ttl
  redis.call('ZADD', deadline, u.deadline, id)
  redis.call('PEXPIRE', entries .. id, 2 * u.ttl + 120000)
end
redis.call('ZADD', score, policy_score(s, u), id)
redis.call('HSET', usage, id, format_usage(u))
s.bytes = s.bytes + size
relink(g, id, links)
forget_relics(g, s)
if s.history > 0 then add_record(records, histories, s, id, written, record) end
s.writes = s.writes + 1
emit(events, s, 'WRITE', key, string.format('size=%d, compile_time=%.0fms', size, cost))
write_state(state, s)
return 1
