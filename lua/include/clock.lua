-- clock(): the server's time as (milliseconds, microseconds). It is the only clock, asked once a script, so that the
-- clocks of the machines never matter.
local function clock()
  local time = redis.call('TIME')
  local us = time[1] * 1000000 + time[2]
  return (us - us % 1000) / 1000, us
end
