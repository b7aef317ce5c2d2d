-- emit(events, s, kind, key, details): append to the event stream, if the cache writes events of this kind.
local function emit(events, s, kind, key, details)
  if string.find(s.events, kind, 1, true) then
    redis.call('XADD', events, 'MAXLEN', '~', s.event_cap, '*', 't', kind, 'k', key, 'd', details)
  end
end
