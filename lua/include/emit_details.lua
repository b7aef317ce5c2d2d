-- emit_details(events, kinds, cap, kind, key, details): append an event that says more than its key, if the cache writes
-- events of this kind.
local function emit_details(events, kinds, cap, kind, key, details)
  if string.find(kinds, kind, 1, true) then
    redis.call('XADD', events, 'MAXLEN', '~', cap, '*', kind, key, 'd', details)
  end
end
