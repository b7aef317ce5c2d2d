-- Store a signature under a text or a key: replace what was there, evict what must go, index.
-- Returns 1; 0 when this request took effect before; -1 when the cache could never hold it (what was there goes too).
--@include content_keys
--@include content_ghosts
local requests  = KEYS[9]            -- prefix of the marks of requests that took effect
local request   = ARGV[2]            -- id of this request; a repeat carries the same
local id        = ARGV[3]            -- the entry's id
local check     = ARGV[4]            -- SHA-256 of the normalized text, or of the key
local index     = ARGV[5]            -- what its members in `prefixes` are made of
local signature = ARGV[6]            -- the encoded signature
local digest    = ARGV[7]            -- digest of the plain signature
local text      = ARGV[8]            -- the encoded text, '' where it is the normalized one
local size      = tonumber(ARGV[9])  -- int: bytes of text and signature

--@include clock
--@include hot_format
--@include cold_format
--@include usage_format
--@include content_members
--@include write_entry
local cost, ttl_ms = 0, ''
local now, us = clock()
local found = redis.call('HMGET', usage, '*', id)
repeat  -- the usual set ends in here; what is out of the ordinary leaves this, before anything is written
--@include usual_put
  local before = used and redis.call('HGET', indexed, id)
  if before and before ~= index then break end
  -- A text that is there has its members; if the server has dropped them, the first is gone as well.
  local there = before and redis.call('ZSCORE', prefixes, content_member(index, id, 0))
  local lost = victim and redis.call('HGET', indexed, victim)

  if not redis.call('SET', requests .. request, '1', 'NX', 'PX', 60000) then return 0 end
--@include usual_drop
  if lost then
    redis.call('ZREM', prefixes, unpack(content_members(lost, victim)))
    redis.call('HDEL', indexed, victim)
  end
  write_entry(entries .. id, 's', signature, 'd', digest, 'o', text, 'v', check, 'w', tick)
  if not before then redis.call('HSET', indexed, id, index) end
  if not there then content_index(prefixes, index, id) end
--@include usual_index
  return 1
until true

-- What only the other cases need comes here: a script makes its functions anew at every call.
--@include content_group
g.ghost, g.ghost_old = ghost, ghost_old
--@include stale
--@include write_state
--@include policy
--@include ghost
--@include content_remove
--@include reap
--@include evict
local s, used = parse_hot(found[1], partitions), found[2]
if not s then return stale() end
thaw(s)
if not redis.call('SET', requests .. request, '1', 'NX', 'PX', 60000) then return 0 end
s.tick = math.max(us, s.tick + 1)
reap(g, s, now, 8, id)
local old = used and parse_usage(used) or nil
if old and old.deadline > 0 and old.deadline <= now then s.expirations = s.expirations + 1 end
if size > s.bound_bytes then
  drop(g, s, id)
  write_state(usage, s)
  redis.call('DEL', requests .. request)  -- a repeat is told the same
  return -1
end
policy_request(s, 'put', size)

-- A value is replaced in place, unless what makes room must not see it.
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
content_index(prefixes, index, id)
s.bytes = s.bytes + size
s.writes = s.writes + 1
write_state(usage, s, id, u)
return 1
