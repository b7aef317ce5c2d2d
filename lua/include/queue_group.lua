-- queue_group(stream): whether workers read this stream already; its group may be lost, too.
local function queue_group(stream)
  return redis.call('EXISTS', stream) == 1 and #redis.call('XINFO', 'GROUPS', stream) > 0
end
