-- emit(events, s, kind, key, details): append to the event stream, if the cache writes events of this kind.
--@include emit_read
--@include emit_details
local function emit(events, s, kind, key, details)
  if details ~= '' then return emit_details(events, s.events, s.event_cap, kind, key, details) end
  if not string.find(s.events, kind, 1, true) then return end
  if kind == 'HIT' or kind == 'MISS' then
    emit_read(events, s.event_cap, s.tick, kind, key)
  else
    redis.call('XADD', events, 'MAXLEN', '~', s.event_cap, '*', kind, key)
  end
end
