-- The last writes of a usual put, behind that of the entry: its deadline, its score, its usage record and the state.
if due > 0 then
  redis.call('ZADD', deadline, due, id)
  redis.call('PEXPIRE', entries .. id, 2 * ttl + 120000)
elseif used and gone_due > 0 then
  redis.call('ZREM', deadline, id)
  redis.call('PERSIST', entries .. id)
end
redis.call('ZADD', score, points, id)
redis.call('HSET', usage, '*', packed, id, record)
