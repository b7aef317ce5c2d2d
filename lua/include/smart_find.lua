-- smart_find(g, id, key, wanted, wanted_id, now): the live entry of a key, or of one version of it.
-- Returns its id, usage and {output, hash, key, grace (ms), 'predicted' if a predicted task made it}, and when it expires
-- (ms, 0 for never); else the reason why not. The grace is the end of its life in which it only stands in for a compute
-- that fails.
local function smart_find(g, id, key, wanted, wanted_id, now)
  local entry = redis.call('HMGET', g.entries .. id, 'o', 'h', 'k', 'g', 'p')
  if wanted ~= '' and entry[2] ~= wanted then
    -- An older version may outlive the latest one.
    local latest = entry[2]
    id = id .. wanted_id
    entry = redis.call('HMGET', g.entries .. id, 'o', 'h', 'k', 'g', 'p')
    if entry[2] ~= wanted then return latest and 'hash mismatch' or 'not found' end
  end
  if entry[3] ~= key then return 'not found' end
  local text = redis.call('HGET', g.usage, id)
  if not text then return 'not found' end
  local u = parse_usage(text)
  local expires = u.deadline > 0 and u.deadline - (tonumber(entry[4]) or 0) or 0
  if u.deadline > 0 and expires <= now then return 'expired' end
  return id, u, entry, expires
end
