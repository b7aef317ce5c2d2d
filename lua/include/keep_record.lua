-- keep_record(g, id, record, tick, history, age_ms, most, leaves): the latest version of a key is about to be none any more;
-- what becomes of its record, if it has one. It joins the key's list. But where the entry leaves the cache, and no other
-- record of its key is remembered, it is retired: most keys are compiled once while they are held, and a list for one record
-- takes several times as much memory. A key has a list or a retired record, not both.
--
-- A list is bounded by length and age, the number of lists by four times the entries, of which there may be `most`.
-- `retired` has two generations, so that forgetting is one UNLINK; each is bounded by twice the entries, and the older one
-- by age. Of g only the names of these keys are needed.
--@include record

-- The lists that were added to longest ago go. There are more than one too many if the bound was lowered.
local function thin_lists(g, most)
  local over = redis.call('ZCARD', g.histories) - 4 * most
  local oldest = over > 0 and redis.call('ZPOPMIN', g.histories, math.min(over, 64)) or {}
  for i = 1, #oldest, 2 do redis.call('UNLINK', g.records .. oldest[i]) end
end

-- False if there is another record of the key.
local function retire(g, id, record, age_ms, most)
  if redis.call('HGET', g.retired_old, id) or redis.call('HSETNX', g.retired, id, record) == 0 then return false end
  local count = redis.call('HLEN', g.retired)
  if count >= 2 * most then
    redis.call('UNLINK', g.retired_old)
    redis.call('RENAME', g.retired, g.retired_old)
    redis.call('PEXPIRE', g.retired_old, age_ms)
  end
  if count >= 2 * most or count % 16 == 0 then thin_lists(g, most) end
  return true
end

local function keep_record(g, id, record, tick, history, age_ms, most, leaves)
  if not record or history == 0 then return end
  local list = g.records .. id
  local length = leaves and redis.pcall('LPUSHX', list, record) or redis.pcall('LPUSH', list, record)
  if length == 0 and retire(g, id, record, age_ms, most) then return end
  local failed = type(length) == 'table' and length.err
  -- Another program may have put something else there.
  if failed and string.find(failed, 'WRONGTYPE', 1, true) then redis.call('UNLINK', list) end
  if failed or length == 0 then length = redis.call('LPUSH', list, record) end
  local begins = length == 1
  if begins then  -- it takes over what was retired
    for _, generation in ipairs({g.retired, g.retired_old}) do
      local earlier = redis.call('HGET', generation, id)
      if earlier then
        length = redis.call('RPUSH', list, earlier)
        redis.call('HDEL', generation, id)
      end
    end
  end
  if length > history then redis.call('LTRIM', list, 0, history - 1) end
  redis.call('PEXPIRE', list, age_ms)
  redis.call('ZADD', g.histories, tick, id)
  if begins then thin_lists(g, most) end
end
