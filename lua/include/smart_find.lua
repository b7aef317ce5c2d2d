-- smart_find(g, id, key, wanted, wanted_id, now, used, entry): the live entry of a key, or of one version of it. `used` is
-- the usage record of `id`, and `entry` what is returned of it, if the caller has them; g.uses holds the uses that this call
-- has changed, if it looks up several. Returns its id, usage, {output, hash, key}, when it expires (ms, 0 for never), and its
-- grace (ms): the end of its life, in which it only stands in for a compute that fails. Else the reason why there is none.
local function smart_find(g, id, key, wanted, wanted_id, now, used, entry)
  entry = entry or redis.call('HMGET', g.entries .. id, 'o', 'h', 'k')
  if entry.err then error(entry) end
  if wanted ~= '' and entry[2] ~= wanted then
    -- An older version may outlive the latest one.
    local latest = entry[2]
    id, used = id .. wanted_id, nil
    entry = redis.call('HMGET', g.entries .. id, 'o', 'h', 'k')
    if entry[2] ~= wanted then return latest and 'hash mismatch' or 'not found' end
  end
  if entry[3] ~= key then return 'not found' end
  used = used or redis.call('HGET', g.usage, id)
  if not used then return 'not found' end
  local u = g.uses and g.uses[id] or parse_usage(used)
  if u.deadline == 0 then return id, u, entry, 0, 0 end
  local grace = tonumber(redis.call('HGET', g.entries .. id, 'g') or 0)
  local expires = u.deadline - grace
  if expires <= now then return 'expired' end
  return id, u, entry, expires, grace
end
