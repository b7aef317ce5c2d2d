-- keep_record(g, s, id, u, entry): the latest version of a key is about to be none any more. A history is bounded by length
-- and age, the number of histories by four times the entries.
--@include record
local function keep_record(g, s, id, u, entry)
  local record = s.history > 0 and format_record(u, entry)
  if not record then return end
  local list = g.records .. id
  local length = redis.pcall('LPUSH', list, record)
  if type(length) == 'table' then  -- another program has put something else there
    redis.call('UNLINK', list)
    length = redis.call('LPUSH', list, record)
  end
  if length > s.history then redis.call('LTRIM', list, 0, s.history - 1) end
  redis.call('PEXPIRE', list, s.history_age_ms)
  redis.call('ZADD', g.histories, s.tick, id)
  local over = length == 1 and redis.call('ZCARD', g.histories) - 4 * s.bound_entries or 0
  if over > 0 then
    for _, oldest in ipairs(redis.call('ZRANGE', g.histories, 0, math.min(over, 8) - 1)) do
      redis.call('ZREM', g.histories, oldest)
      redis.call('UNLINK', g.records .. oldest)
    end
  end
end
