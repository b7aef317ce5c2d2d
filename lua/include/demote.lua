-- demote(g, id): the latest version of a key becomes an older one, which is the same entry under a longer id.
-- trim_versions(g, s, id, keep): drop the oldest of a key's older versions until `keep` are left.
local function demote(g, id)
  local older = id .. redis.call('HGET', g.entries .. id, 'i')
  redis.call('RENAME', g.entries .. id, g.entries .. older)
  redis.call('LPUSH', g.versions .. id, string.sub(older, 17))
  for _, index in ipairs({g.score, g.deadline}) do
    local points = redis.call('ZSCORE', index, id)
    if points then
      redis.call('ZADD', index, points, older)
      redis.call('ZREM', index, id)
    end
  end
  local used = redis.call('HGET', g.usage, id)
  if used then
    redis.call('HSET', g.usage, older, used)
    redis.call('HDEL', g.usage, id)
  end
  local dependencies = redis.call('HGET', g.edges, id)
  if dependencies then
    relink(g, older, dependencies)
    unlink(g, id)
  end
end

local function trim_versions(g, s, id, keep)
  while redis.call('LLEN', g.versions .. id) > keep do
    drop(g, s, id .. redis.call('LINDEX', g.versions .. id, -1), 'older version')
  end
end
