-- emit_read(events, cap, tick, kind, key): append that a key was found or not. Looking whether there are too many events
-- costs as much as a call, so it is done for one in 16.
local function emit_read(events, cap, tick, kind, key)
  if tick % 16 ~= 0 then
    redis.call('XADD', events, '*', kind, key)
  else
    redis.call('XADD', events, 'MAXLEN', '~', cap, '*', kind, key)
  end
end
