-- After a miss, or a wait: the output if it is there by now, else the right to compute it, or whom to wait for.
-- Returns {'value', output, content hash}, {'lease', fence}, or {'wait', ms that the lease still holds, id in wakes up to
-- which all was told, fence of that lease}. An early refresh of an output that is still good is not shown that output:
-- it gets the lease, or {'wait', 0, '', fence}, and then does not wait.
local state      = KEYS[1]            -- hash: the last fence
local usage      = KEYS[2]            -- hash: entry id -> use, size, cost, deadline; and the state
local entries    = KEYS[3]            -- prefix of the entries' hashes
local events     = KEYS[4]            -- stream: what happened
local lease      = KEYS[5]            -- hash: who computes this
local wakes      = KEYS[6]            -- stream: flights that ended while others waited
local voided     = KEYS[7]            -- zset: key id -> fence at which it was invalidated
local partitions = ARGV[1]            -- int: how many partitions this client believes in
local id         = ARGV[2]            -- the key's id
local key        = ARGV[3]            -- the key itself
local wanted     = ARGV[4]            -- content hash asked for, '' for any
local wanted_id  = ARGV[5]            -- id of that hash among the older versions
local owner      = ARGV[6]            -- names this caller, and no other; a repeat carries the same
local lease_ms   = tonumber(ARGV[7])  -- int: how long the lease holds unless it is renewed
local early      = ARGV[8]            -- '1': the caller has an output, and would refresh it

--@include clock
--@include write_hot
--@include stale
--@include emit
--@include smart_find
--@include flight
--@include void
local s = read_hot(usage, partitions)
if not s then return stale() end
local now, us = clock()

if early == '' then
  -- Not a use in the policy's eyes: the miss of this call was one.
  local _, u, entry = smart_find({usage = usage, entries = entries}, id, key, wanted, wanted_id, now)
  if u then
    s.tick = math.max(us, s.tick + 1)
    s.hits = s.hits + 1
    s.saved_ms = s.saved_ms + u.cost
    emit(events, s, 'HIT', key, 'computed by another')
    write_hot(usage, s)
    return {'value', entry[1], entry[2]}
  end
end

local held = redis.call('HMGET', lease, 'o', 'n', 'x')
if held[1] == owner then return {'lease', held[2]} end
-- What is computed from inputs that changed since is nobody's to wait for.
if not flight_free(lease, now) and not void_since(voided, held[2], id, '') then
  if early == '1' then return {'wait', 0, '', held[2]} end
  redis.call('HSET', lease, 'w', '1')
  -- Nothing was told since the last entry; so a later id says the same, and tells readers of several streams more.
  local last = redis.call('XREVRANGE', wakes, '+', '-', 'COUNT', 1)[1]
  local recent = last and tonumber(string.match(last[1], '^%d+')) >= now - 1
  return {'wait', tonumber(held[3]) - now, recent and last[1] or string.format('%.0f-0', now - 1), held[2]}
end
local fence = string.format('%.0f', redis.call('HINCRBY', state, 'fence', 1))
redis.call('HSET', lease, 'o', owner, 'n', fence)
flight_keep(lease, now, lease_ms)
return {'lease', fence}
