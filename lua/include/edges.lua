-- The dependency graph. `edges` maps an entry to the ids of its dependencies (16 bytes each); the set
-- dependents..id holds the entries that name id. They are mutual.
--
-- An entry that goes away while others depend on it leaves its edges behind, as a relic: were they dropped with it,
-- an invalidation further down would not reach those others, and they would be stale. A relic goes when its last
-- dependent does. With several partitions the dependents may be elsewhere, so every relic is kept, up to the bound.

-- release(g, id, dependencies, keep, orphans): id no longer names these, but for those in `keep`; relics that nothing
-- names any more are appended to `orphans`.
local function release(g, id, dependencies, keep, orphans)
  for at = 1, #dependencies, 16 do
    local other = string.sub(dependencies, at, at + 15)
    local set = g.dependents .. other
    if not keep[other] then
      redis.call('SREM', set, id)
      if g.partitions == 1 and redis.call('EXISTS', set) == 0 and redis.call('ZSCORE', g.relics, other) then
        orphans[#orphans + 1] = other
      end
    end
  end
end

-- unlink(g, id): drop an entry's edges, and those of every relic that nothing depends on any more.
local function unlink(g, id)
  local pending = {id}
  while #pending > 0 do
    local one = table.remove(pending)
    local dependencies = redis.call('HGET', g.edges, one)
    redis.call('ZREM', g.relics, one)
    if dependencies then
      redis.call('HDEL', g.edges, one)
      release(g, one, dependencies, {}, pending)
    end
  end
end

-- relink(g, id, dependencies): give a live entry these edges in place of those it had. New ones come first, so that a
-- relic that both name is not lost in between.
local function relink(g, id, dependencies)
  local before = redis.call('HGET', g.edges, id)
  if not before and dependencies == '' then return end
  local keep = {}
  for at = 1, #dependencies, 16 do
    local other = string.sub(dependencies, at, at + 15)
    keep[other] = true
    redis.call('SADD', g.dependents .. other, id)
  end
  redis.call('ZREM', g.relics, id)
  if dependencies == '' then
    redis.call('HDEL', g.edges, id)
  else
    redis.call('HSET', g.edges, id, dependencies)
  end
  local orphans = {}
  if before then release(g, id, before, keep, orphans) end
  for _, orphan in ipairs(orphans) do unlink(g, orphan) end
end

-- leave(g, id, tick): the entry is gone; keep its edges as a relic if someone may need them, and count it in
-- g.relics_left. Only the latest version of a key (16 bytes) stands for the key.
local function leave(g, id, tick)
  if redis.call('HEXISTS', g.edges, id) == 0 then return end
  if #id == 16 and (g.partitions > 1 or redis.call('EXISTS', g.dependents .. id) == 1) then
    redis.call('ZADD', g.relics, tick, id)
    g.relics_left = (g.relics_left or 0) + 1
  else
    unlink(g, id)
  end
end
