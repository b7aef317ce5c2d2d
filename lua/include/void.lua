-- What was invalidated while something may be being computed from what was before. `voided` is a zset: key id -> the
-- fence of that moment; its member '' stands for every key. A lease, and a task when it is taken, has a fence that is
-- greater than all before: so a mark from its own fence on says that the key, or something it depends on, was
-- invalidated since. The newest 10,000 marks stay; where older ones went, '' says so for all of them.
--
-- void_mark(state, voided, ids): these were invalidated, or are named as changed.
-- void_all(state, voided): everything was.
-- void_since(voided, fence, id, links): whether a key, or one of its dependencies (16 bytes each), was.
local function void_mark(state, voided, ids)
  local fence = redis.call('HGET', state, 'fence')
  if not fence or #ids == 0 then return end  -- no fence: nothing was ever computed here
  for first = 1, #ids, 1000 do
    local marks = {}
    for i = first, math.min(first + 999, #ids) do
      marks[#marks + 1] = fence
      marks[#marks + 1] = ids[i]
    end
    redis.call('ZADD', voided, unpack(marks))
  end
  local over = redis.call('ZCARD', voided) - 10000
  if over > 0 then
    local last = redis.call('ZRANGE', voided, over - 1, over - 1, 'WITHSCORES')[2]
    redis.call('ZREMRANGEBYRANK', voided, 0, over - 1)
    redis.call('ZADD', voided, last, '')
  end
  redis.call('PEXPIRE', voided, 86400000)
end

local function void_all(state, voided)
  redis.call('UNLINK', voided)
  void_mark(state, voided, {''})
end

local function void_since(voided, fence, id, links)
  local ids = {'', id}
  for at = 1, #links, 16 do ids[#ids + 1] = string.sub(links, at, at + 15) end
  for first = 1, #ids, 1000 do
    local marks = redis.call('ZMSCORE', voided, unpack(ids, first, math.min(first + 999, #ids)))
    for _, mark in ipairs(marks) do
      if mark and tonumber(mark) >= tonumber(fence) then return true end
    end
  end
  return false
end
