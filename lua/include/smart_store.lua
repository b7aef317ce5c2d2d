-- smart_store(g, s, new, now, used): store an output: replace or keep older versions, evict what must go, index, record,
-- tell. `used` is the usage record that the key has so far. True, and the use of the entry; false when the cache could
-- never hold it (older values go too). The caller has counted the tick, and writes the state and the use.
--@include clock
--@include write_state
--@include stale
--@include emit
--@include write_details
--@include policy
--@include ghost
--@include edges
--@include smart_remove
--@include reap
--@include evict
--@include forget_relics
--@include demote
--@include write_entry
local function smart_store(g, s, new, now, used)
  local id, entry = new.id, g.entries .. new.id
  local old = used and parse_usage(used) or nil
  local expired = old and old.deadline > 0 and old.deadline <= now
  if new.size > s.bound_bytes then
    reap(g, s, now, 8, id)
    if expired then
      s.expirations = s.expirations + 1
      drop(g, s, id, 'expired')
    end
    drop_key(g, s, id, 'replaced by a value over the limit')
    forget_relics(g, s)
    return false
  end
  policy_request(s, 'put', new.size)

  local before = (old or s.versions > 1) and redis.pcall('HMGET', entry, 'h', 't', 'w', 'm', 'p', 'g') or {}
  if old then
    local record = format_record(old.cost, old.size, before)
    keep_record(g, id, record, s.tick, s.history, s.history_age_ms, s.bound_entries)
  end
  if s.versions > 1 and not expired and before[1] and before[1] ~= new.hash then
    demote(g, id)
    old, before = nil, {}
  end
  if expired then
    s.expirations = s.expirations + 1
    emit(g.events, s, 'EVICT', new.key, 'expired')
  end
  -- Before anything else goes: what this output depends on leaves its edges behind, if it goes to make room.
  relink(g, id, new.links)
  reap(g, s, now, 8, id)
  if redis.call('LLEN', g.versions .. id) > 0 then
    if redis.call('EXISTS', entry .. new.hash_id) == 1 then drop(g, s, id .. new.hash_id, 'replaced') end
    trim_versions(g, s, id, s.versions - 1)
  end

  -- A value is replaced in place, unless what makes room must not see it.
  if old then s.bytes = s.bytes - old.size end
  local others = redis.call('ZCARD', g.score) - (old and 1 or 0)
  local room = others < s.bound_entries and s.bytes + new.size <= s.bound_bytes and s.policy ~= 'windowed'
  if old and not room then redis.call('ZREM', g.score, id) end
  local u = {count = 0, last = now, size = new.size, cost = new.cost, deadline = 0}
  ghost_recall(g, s, id, u, old)
  if not room then evict(g, s, 1, new.size, 64, u) end

  local written = now
  u.ttl = new.ttl_ms == '' and s.ttl_ms or tonumber(new.ttl_ms)
  if new.imported ~= '' then
    local count, last, at = string.match(new.imported, '^(%d+) (%d+) (%d+)$')
    u.count, u.last, written = tonumber(count), tonumber(last), tonumber(at)
    u.at = u.last / 1000
  end
  write_entry(entry, 'k', new.key, 'h', new.hash, 'i', new.hash_id, 'o', new.output, 'm', new.meta,
    't', written, 'w', s.tick)
  -- Few have these: an eighth field costs Valkey another 140 bytes.
  if before[5] or before[6] then redis.call('HDEL', entry, 'p', 'g') end
  if new.origin ~= '' then redis.call('HSET', entry, 'p', new.origin) end
  if u.ttl > 0 then
    if new.grace_ms > 0 then redis.call('HSET', entry, 'g', new.grace_ms) end
    u.ttl = u.ttl + new.grace_ms
    u.deadline = now + u.ttl
    redis.call('ZADD', g.deadline, u.deadline, id)
    redis.call('PEXPIRE', entry, 2 * u.ttl + 120000)
  elseif old and old.deadline > 0 then
    redis.call('ZREM', g.deadline, id)
    redis.call('PERSIST', entry)
  end
  redis.call('ZADD', g.score, policy_score(s, u), id)
  s.bytes = s.bytes + new.size
  s.writes = s.writes + 1
  emit(g.events, s, 'WRITE', new.key, write_details(new.size, new.cost))
  if g.relics_left then
    -- What goes with a relic may be this very entry.
    redis.call('HSET', g.usage, id, format_usage(u))
    forget_relics(g, s)
    if not redis.call('ZSCORE', g.score, id) then u = nil end
  end
  return true, u
end
