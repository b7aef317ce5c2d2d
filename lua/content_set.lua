-- Store a signature under a text or a key: replace what was there, evict what must go, index.
-- Returns 1; 0 when this request took effect before; -1 when the cache could never hold it (what was there goes too).
--@include content_keys
local requests  = KEYS[9]           -- prefix of the marks of requests that took effect
local request   = ARGV[2]            -- id of this request; a repeat carries the same
local id        = ARGV[3]            -- the entry's id
local check     = ARGV[4]            -- SHA-256 of the normalized text, or of the key
local index     = ARGV[5]            -- what its members in `prefixes` are made of
local signature = ARGV[6]            -- the encoded signature
local digest    = ARGV[7]            -- digest of the plain signature
local text      = ARGV[8]            -- the encoded text, '' where it is the normalized one
local size      = tonumber(ARGV[9])  -- int: bytes of text and signature

--@include clock
--@include stale
--@include write_state
--@include policy
--@include ghost
--@include content_members
--@include content_remove
--@include reap
--@include evict
--@include write_entry
local s, used = read_state(usage, partitions, id)
if not s then return stale() end
if not redis.call('SET', requests .. request, '1', 'NX', 'PX', 60000) then return 0 end
local now, us = clock()
s.tick = math.max(us, s.tick + 1)
reap(g, s, now, 8, id)
if size > s.bound_bytes then
  drop(g, s, id)
  write_state(usage, s)
  redis.call('DEL', requests .. request)  -- a repeat is told the same
  return -1
end
policy_request(s, 'put', size)

-- A value is replaced in place, unless what makes room must not see it.
local old = used and parse_usage(used) or nil
if old then s.bytes = s.bytes - old.size end
local others = redis.call('ZCARD', score) - (old and 1 or 0)
local room = others < s.bound_entries and s.bytes + size <= s.bound_bytes and s.policy ~= 'windowed'
if old and not room then redis.call('ZREM', score, id) end
local u = {count = 0, last = now, size = size, cost = 0, deadline = 0, ttl = s.ttl_ms}
ghost_recall(g, s, id, u, old)
if not room then evict(g, s, 1, size, 64, u) end

write_entry(entries .. id, 's', signature, 'd', digest, 'o', text, 'v', check, 'w', s.tick)
if u.ttl > 0 then
  u.deadline = now + u.ttl
  redis.call('ZADD', deadline, u.deadline, id)
  redis.call('PEXPIRE', entries .. id, 2 * u.ttl + 120000)
elseif old and old.deadline > 0 then
  redis.call('ZREM', deadline, id)
  redis.call('PERSIST', entries .. id)
end
redis.call('ZADD', score, policy_score(s, u), id)
local before = redis.call('HGET', indexed, id)
if before and before ~= index then redis.call('ZREM', prefixes, unpack(content_members(before, id))) end
if before ~= index then redis.call('HSET', indexed, id, index) end
local added = {}
for _, member in ipairs(content_members(index, id)) do
  added[#added + 1] = 0
  added[#added + 1] = member
end
redis.call('ZADD', prefixes, unpack(added))
s.bytes = s.bytes + size
s.writes = s.writes + 1
write_state(usage, s, id, u)
return 1
