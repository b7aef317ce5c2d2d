-- emit(events, s, kind, key, details): append to the event stream, if the cache writes events of this kind.
--@include emit_read
local function emit(events, s, kind, key, details)
  if not string.find(s.events, kind, 1, true) then return end
  if details ~= '' then
    redis.call('XADD', events, 'MAXLEN', '~', s.event_cap, '*', kind, key, 'd', details)
  elseif kind == 'HIT' or kind == 'MISS' then
    emit_read(events, s.event_cap, s.tick, kind, key)
  else
    redis.call('XADD', events, 'MAXLEN', '~', s.event_cap, '*', kind, key)
  end
end
