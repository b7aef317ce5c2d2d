-- forget_relics(g, s): keep at most as many relics as entries; if there were more before, because the bound was lowered,
-- they go little by little. Whatever may leave a relic ends with this. What depends on a forgotten one goes with it,
-- because without its edges no invalidation would reach that any more. True when there are no more than may be.
--@include closure
local function forget_relics(g, s)
  local limit = 64
  while redis.call('ZCARD', g.relics) > s.bound_entries do
    if limit + (g.relics_left or 0) <= 0 then return false end
    limit = limit - 1
    local oldest = redis.call('ZRANGE', g.relics, 0, 0)[1]
    local lost = closure(g, {oldest})
    for i = #lost, 1, -1 do
      if redis.call('ZSCORE', g.score, lost[i]) then
        drop(g, s, lost[i], 'dependency forgotten')
        s.evictions = s.evictions + 1
      end
    end
    unlink(g, oldest)
  end
  return true
end
