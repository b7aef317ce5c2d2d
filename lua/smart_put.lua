-- Store an output.
-- Returns 1; 0 when this request took effect before; -1 when the cache could never hold it (older values go too).
--@include smart_keys
--@include smart_new

--@include clock
--@include hot_format
--@include cold_format
--@include usage_format
--@include write_entry
--@include write_details
--@include emit_details
local now, us = clock()
local found = redis.call('HMGET', usage, '*', id)
repeat  -- the usual put ends in here; what is out of the ordinary leaves this, before anything is written
  if imported ~= '' then break end
--@include usual_put
  local loser, old = victim or id, {}
  if gone then
    old = redis.pcall('HMGET', entries .. loser, 'h', 't', 'w', 'm', victim and 'k' or 'p', victim and 'k' or 'g')
    if old.err or (used and (old[5] or old[6])) then break end
  end
--@include usual_links

  if not redis.call('SET', requests .. request, '1', 'NX', 'PX', 60000) then return 0 end
  if gone then
    --@include keep_record
    local one = format_record(gone_cost, gone_size, old)
    local kept = {histories = histories, records = records, retired = retired, retired_old = retired_old}
    keep_record(kept, loser, one, tick, history, history_age_ms, bound_entries, victim)
  end
--@include usual_relink
--@include usual_drop
  if victim then emit_details(events, kinds, event_cap, 'EVICT', old[5] or '', reason) end
  write_entry(entries .. id, 'k', key, 'h', hash, 'i', hash_id, 'o', output, 'm', meta, 't', now, 'w', tick)
--@include usual_index
  emit_details(events, kinds, event_cap, 'WRITE', key, write_details(size, cost))
  return 1
until true

-- What only the other cases need comes here: a script makes its functions anew at every call.
--@include smart_group
--@include smart_output
--@include smart_store
local s, used = parse_hot(found[1], partitions), found[2]
if not s then return stale() end
thaw(s)
if not redis.call('SET', requests .. request, '1', 'NX', 'PX', 60000) then return 0 end
s.tick = math.max(us, s.tick + 1)
local stored, u = smart_store(g, s, new, now, used)
write_state(usage, s, id, u)
if not stored then redis.call('DEL', requests .. request) end
return stored and 1 or -1
