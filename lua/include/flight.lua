-- The lease of a flight: one key (or one content hash of it) being computed by one caller of the whole fleet. A hash:
-- `o` owner, `n` fence, `x` until when it holds (ms), `w` whether anyone waits. It outlives `x` for a while: what nobody
-- took over, its owner may still finish.
--
-- flight_held(lease, owner, fence): whether this very caller has it. Both are compared: after a flush the fences start
-- anew, and an owner's name is used once.
-- flight_free(lease, now): whether anybody may take it.
-- flight_keep(lease, now, lease_ms): it holds from now.
-- flight_end(lease, wakes, flight): nobody has it any more, and those who wait are told.
local function flight_held(lease, owner, fence)
  local held = redis.call('HMGET', lease, 'o', 'n')
  return held[1] == owner and held[2] == fence
end

local function flight_free(lease, now)
  local holds = redis.call('HGET', lease, 'x')
  return not holds or (tonumber(holds) or 0) <= now
end

local function flight_keep(lease, now, lease_ms)
  redis.call('HSET', lease, 'x', now + lease_ms)
  redis.call('PEXPIRE', lease, 2 * lease_ms + 60000)
end

local function flight_end(lease, wakes, flight)
  local waited = redis.call('HEXISTS', lease, 'w') == 1
  redis.call('DEL', lease)
  if waited then
    redis.call('XADD', wakes, 'MAXLEN', '~', 1000, '*', 'f', flight)
    redis.call('PEXPIRE', wakes, 60000)
  end
end
