-- The index of texts, one sorted set for texts and queries of any length. Level 0 holds the first 512 bytes of a
-- normalized text literally; level k holds bytes 512*2^(k-1) to 512*2^k, behind a digest of all bytes before them. So a
-- query lies in one range of one level: the digest of what comes before, then the rest literally. A member is
--   scope id (8), level (1), digest (16, none on level 0), stretch, NUL if the text ends here else \1, entry id (16)
-- and an entry that only its id can find (an explicit key, an empty text) has one on level 255, for its scope's sake.
--
-- `index` is what `indexed` holds: scope id (8), number of digests (1; 255: found by its id only), the digests, the
-- normalized text.
-- content_member(index, id, level): an entry's member of one level. content_members(index, id): all of them.
-- content_index(prefixes, index, id): write them.
local function content_member(index, id, level)
  local scope, levels = string.sub(index, 1, 8), string.byte(index, 9)
  if not levels or levels == 255 then return scope .. '\255\0' .. id end
  local text = 10 + 16 * levels
  local first, after = level > 0 and 256 * 2 ^ level or 0, 512 * 2 ^ level
  local digest = level > 0 and string.sub(index, 16 * level - 6, 16 * level + 9) or ''
  local stretch = string.sub(index, text + first, text + after - 1)
  return scope .. string.char(level) .. digest .. stretch .. (level == levels and '\0' or '\1') .. id
end

local function content_members(index, id)
  local levels, members = string.byte(index, 9) or 255, {}
  for level = 0, levels < 255 and levels or 0 do members[level + 1] = content_member(index, id, level) end
  return members
end

local function content_index(prefixes, index, id)
  local added = {}
  for _, member in ipairs(content_members(index, id)) do
    added[#added + 1] = 0
    added[#added + 1] = member
  end
  redis.call('ZADD', prefixes, unpack(added))
end
