-- The rest of the state, for scripts that change more than a read does.
-- thaw(s), freeze(s): take it out of s.cold; put it back there.
-- read_state(usage, partitions, id): what read_hot gives, thawed.
--@include cold_format
--@include hot_state

local function thaw(s)
  s.ttl_ms, s.versions, s.history, s.history_age_ms, s.bytes, s.p1, s.writes, s.evictions, s.expirations,
    s.invalidations, s.corrupt = struct.unpack(COLD, s.cold)
end

local function freeze(s)
  s.cold = struct.pack(COLD, s.ttl_ms, s.versions, s.history, s.history_age_ms, s.bytes, s.p1, s.writes, s.evictions,
    s.expirations, s.invalidations, s.corrupt)
end

local function read_state(usage, partitions, id)
  local s, used = read_hot(usage, partitions, id or '*')
  if s then thaw(s) end
  return s, used
end
