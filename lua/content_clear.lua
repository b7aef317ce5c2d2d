-- Remove entries, of one scope or all, at most `limit` a call. Counters stay.
-- Returns {how many, 1 if more are left else 0}.
--@include content_keys
--@include content_ghosts
local scope = ARGV[2]            -- id of the scope, '' for the whole cache
local limit = tonumber(ARGV[3])  -- int: entries to remove in this call

--@include content_group
--@include stale
--@include write_state
--@include content_members
--@include content_remove
local s = read_state(usage, partitions)
if not s then return stale() end
local ids = {}
if scope == '' then
  ids = redis.call('ZRANGE', score, 0, limit - 1)
else
  -- An entry's first member is on level 0 or 255, so each entry of the scope stands once in these two ranges.
  for _, level in ipairs({'\0', '\255'}) do
    local from = scope .. level
    local members = redis.call('ZRANGEBYLEX', prefixes, '[' .. from, '[' .. from .. '\255', 'LIMIT', 0, limit - #ids)
    for _, member in ipairs(members) do
      ids[#ids + 1] = string.sub(member, -16)
      redis.call('ZREM', prefixes, member)
    end
  end
end
local removed = 0
for _, id in ipairs(ids) do
  if drop(g, s, id) then removed = removed + 1 end
end
if scope == '' and #ids < limit then
  -- No entry is left; what the server's own eviction left behind goes too.
  redis.call('UNLINK', usage, deadline, prefixes, indexed, ghost, ghost_old)
  s.bytes = 0
end
write_state(usage, s)
return {removed, #ids == limit and 1 or 0}
