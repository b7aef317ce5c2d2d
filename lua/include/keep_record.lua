-- keep_record(g, id, record, tick, history, age_ms, most, leaves): the latest version of a key is about to be none any more;
-- what becomes of its record, if it has one. It joins the key's list. But of a key that leaves the cache, and has left no
-- record before, it is retired: most keys are compiled once while they are held, and a list for one record takes several
-- times as much memory. A key has a list or a retired record, not both.
--
-- A list is bounded by length and age, the number of lists by four times the entries, of which there may be `most`.
-- `retired` has two generations, so that forgetting is one UNLINK; each is bounded by twice the entries, and the older one
-- by age. Of g only the names of these keys are needed.
--@include record
local function keep_record(g, id, record, tick, history, age_ms, most, leaves)
  if not record or history == 0 then return end
  local list = g.records .. id
  local length = leaves and redis.pcall('LPUSHX', list, record) or redis.pcall('LPUSH', list, record)
  if length == 0 then
    if not redis.call('HGET', g.retired_old, id) and redis.call('HSETNX', g.retired, id, record) == 1 then
      if redis.call('HLEN', g.retired) >= 2 * most then
        redis.call('UNLINK', g.retired_old)
        redis.call('RENAME', g.retired, g.retired_old)
        redis.call('PEXPIRE', g.retired_old, age_ms)
      end
      return
    end
    length = redis.call('LPUSH', list, record)
  elseif type(length) == 'table' then  -- another program has put something else there
    redis.call('UNLINK', list)
    length = redis.call('LPUSH', list, record)
  end
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
  local over = begins and redis.call('ZCARD', g.histories) - 4 * most or 0
  if over > 0 then
    local oldest = redis.call('ZPOPMIN', g.histories, math.min(over, 8))
    for i = 1, #oldest, 2 do redis.call('UNLINK', g.records .. oldest[i]) end
  end
end
