-- smart_find(g, id, key, wanted, wanted_id, now): the live entry of a key, or of one version of it.
-- Returns its id, usage and {output, hash, key}; else the reason why not.
local function smart_find(g, id, key, wanted, wanted_id, now)
  local entry = redis.call('HMGET', g.entries .. id, 'o', 'h', 'k')
  if wanted ~= '' and entry[2] ~= wanted then
    -- An older version may outlive the latest one.
    local latest = entry[2]
    id = id .. wanted_id
    entry = redis.call('HMGET', g.entries .. id, 'o', 'h', 'k')
    if entry[2] ~= wanted then return latest and 'hash mismatch' or 'not found' end
  end
  if entry[3] ~= key then return 'not found' end
  local text = redis.call('HGET', g.usage, id)
  if not text then return 'not found' end
  local u = parse_usage(text)
  if u.deadline > 0 and u.deadline <= now then return 'expired' end
  return id, u, entry
end
