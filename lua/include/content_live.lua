-- content_live(g, id, now, used, entry): an entry that is there: its usage and {check, digest of the signature, tick of the
-- write, encoded signature}. Else nil and why not: 'absent', 'expired', or 'gone' (the server dropped it). `used` is its
-- usage record, false for none, and `entry` what is returned of it, if the caller has them; g.uses holds the uses that this
-- call has changed, if it looks up several.
local function content_live(g, id, now, used, entry)
  if used == nil then used = redis.call('HGET', g.usage, id) end
  if not used then return nil, 'absent' end
  local u = g.uses and g.uses[id] or parse_usage(used)
  if u.deadline > 0 and u.deadline <= now then return nil, 'expired' end
  entry = entry or redis.call('HMGET', g.entries .. id, 'v', 'd', 'w', 's')
  if entry.err then error(entry) end
  if not entry[1] then return nil, 'gone' end
  if not tonumber(entry[3]) then error('the tick of an entry is no number') end
  return u, entry
end
