-- sole_match(prefixes, levels, stem): the usual end of a search, without what content_search needs for the others: the level
-- and id of the one entry that may equal a text ('normalized'), or else of the one that begins with it ('prefix'). Nothing
-- where there are more to choose from, or none. Its check, and whether it is alive, are the caller's to see.
local function sole_match(prefixes, levels, stem)
  if stem == '' or levels == 'e' then return nil end
  local equal, longer = stem .. '\0', levels == 'enp'
  -- No byte of UTF-8 is 255, so the last one can be counted up.
  local beyond = longer and string.sub(stem, 1, -2) .. string.char(string.byte(stem, -1) + 1) or stem .. '\1'
  local members = redis.call('ZRANGEBYLEX', prefixes, '[' .. (longer and stem or equal), '(' .. beyond, 'LIMIT', 0, 2)
  local one, other, size = members[1], members[2], #stem + 17
  if not one or #one < size then return nil end
  if string.sub(one, 1, #equal) == equal then
    if #one > size or other and string.sub(other, 1, #equal) == equal then return nil end
    return 'normalized', string.sub(one, -16)
  end
  if other then return nil end
  return 'prefix', string.sub(one, -16)
end
