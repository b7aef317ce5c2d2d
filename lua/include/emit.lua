-- emit(events, s, kind, key, details): append to the event stream, if the cache writes events of this kind. Looking
-- whether there are too many costs as much as a call, so it is done for one in 16 reads, and for all else.
local function emit(events, s, kind, key, details)
  if not string.find(s.events, kind, 1, true) then return end
  if details ~= '' then
    redis.call('XADD', events, 'MAXLEN', '~', s.event_cap, '*', kind, key, 'd', details)
  elseif (kind == 'HIT' or kind == 'MISS') and s.tick % 16 ~= 0 then
    redis.call('XADD', events, '*', kind, key)
  else
    redis.call('XADD', events, 'MAXLEN', '~', s.event_cap, '*', kind, key)
  end
end
