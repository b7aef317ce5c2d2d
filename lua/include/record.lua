-- add_record(records, histories, s, id, written, record): one more compile in a key's history. A history is bounded
-- by length and age, their number by four times the entries.
local function add_record(records, histories, s, id, written, record)
  local list = records .. id
  local length = redis.call('LPUSH', list, string.format('%d %d ', s.tick, written) .. record)
  if length > s.history then redis.call('LTRIM', list, 0, s.history - 1) end
  redis.call('PEXPIRE', list, s.history_age_ms)
  redis.call('ZADD', histories, s.tick, id)
  local over = length == 1 and redis.call('ZCARD', histories) - 4 * s.bound_entries or 0
  if over > 0 then
    for _, oldest in ipairs(redis.call('ZRANGE', histories, 0, math.min(over, 8) - 1)) do
      redis.call('ZREM', histories, oldest)
      redis.call('UNLINK', records .. oldest)
    end
  end
end
