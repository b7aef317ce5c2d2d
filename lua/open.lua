-- Agree on the shared config: the first client writes it, later ones adopt it. Fields come as name, value, kind, where
-- kind is 'fixed' (must be the same), 'given' (must be the same, or is changed on purpose), 'default' (a proposal for a
-- new cache), or 'share' (this partition's part of a bound: follows the rest). The state that scripts read follows.
-- Returns {'ok', field, value, ...}, or {'mismatch', field, value, ...} with the stored values.
local state       = KEYS[1]            -- hash: shared config, rare counters
local usage       = KEYS[2]            -- hash: the use of entries; and the state
local reconfigure = ARGV[1]            -- '1': change what is given otherwise
local fields, fields_at = ARGV, 2      -- list: name, value, kind, ...

--@include write_state
--@include first_rate
local known = redis.call('HGET', state, 'partitions')
local differs = false
local changes = {}
for i = fields_at, #fields, 3 do
  local name, value, kind = fields[i], fields[i + 1], fields[i + 2]
  local stored = known and redis.call('HGET', state, name)
  if not stored then
    changes[#changes + 1] = name
    changes[#changes + 1] = value
  elseif stored ~= value and (kind == 'fixed' or (kind == 'given' and reconfigure ~= '1')) then
    differs = true
  elseif stored ~= value and kind ~= 'default' then
    changes[#changes + 1] = name
    changes[#changes + 1] = value
  end
end
local config = redis.call('HGETALL', state)
table.insert(config, 1, 'mismatch')
if differs then return config end
for i = 1, #changes, 2 do redis.call('HSET', state, changes[i], changes[i + 1]) end
config = redis.call('HGETALL', state)

local agreed = {}
for i = 1, #config, 2 do agreed[config[i]] = config[i + 1] end
local s = read_state(usage, agreed.partitions)
if not s then
  s = {rate = first_rate(agreed.policy), p1 = 0.5, capacity = tonumber(agreed.bound_entries)}
  local zero = 'tick t r asked hits misses saved_ms bytes writes evictions expirations invalidations corrupt'
  for name in string.gmatch(zero, '%S+') do s[name] = 0 end
end
local numbers = 'bound_entries bound_bytes ttl_ms sliding versions history history_age_ms event_cap'
for name in string.gmatch(numbers, '%S+') do s[name] = tonumber(agreed[name]) end
s.partitions, s.policy, s.events = agreed.partitions, agreed.policy, agreed.events
write_state(usage, s)
table.insert(config, 1, 'ok')
return config
