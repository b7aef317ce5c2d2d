-- keep_record(records, histories, id, record, tick, history, age_ms, most): the latest version of a key is about to be none
-- any more; its record, if it has one, joins the key's list. A history is bounded by length and age, the number of
-- histories by four times the entries, of which there may be `most`.
--@include record
local function keep_record(records, histories, id, record, tick, history, age_ms, most)
  if not record or history == 0 then return end
  local list = records .. id
  local length = redis.pcall('LPUSH', list, record)
  if type(length) == 'table' then  -- another program has put something else there
    redis.call('UNLINK', list)
    length = redis.call('LPUSH', list, record)
  end
  if length > history then redis.call('LTRIM', list, 0, history - 1) end
  redis.call('PEXPIRE', list, age_ms)
  redis.call('ZADD', histories, tick, id)
  local over = length == 1 and redis.call('ZCARD', histories) - 4 * most or 0
  if over > 0 then
    local oldest = redis.call('ZPOPMIN', histories, math.min(over, 8))
    for i = 1, #oldest, 2 do redis.call('UNLINK', records .. oldest[i]) end
  end
end
