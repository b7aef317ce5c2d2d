-- For how long entries will live, by their deadlines: ms each, less than 0 for one that has none.
local deadline = KEYS[1]  -- zset: entry id -> expiry (ms)
local ids, ids_at = ARGV, 1  -- list: entry ids

--@include clock
local now, lives = clock(), {}
for i = ids_at, #ids do
  local at = tonumber(redis.call('ZSCORE', deadline, ids[i]))
  lives[#lives + 1] = at and math.max(0, at - now) or -1
end
return lives
