-- content_search(g, q, now, bury): the look-up chain behind the exact step. Returns level, id, usage and entry (see
-- `content_live`); or 'ambiguous'; or 'absent'.
--   q: check (SHA-256 of the normalized text or the key), stem (what begins the members that match), levels (which steps
--   to take: 'n'ormalized, 'p'refix), ambiguous ('miss' or 'newest').
--   bury: what to do with the dead that are met, nil to pass them by.
--
-- Several live entries may match a step. Of those with an equal normalized text, the one written last is taken. Of those
-- that begin with the query too, if all carry the same signature; otherwise the query is ambiguous, and only a caller
-- that asks for the newest gets one. No more than MOST are looked at, living or dead: beyond, a query counts as ambiguous.
-- Of the dead, only as many are buried as hold the server for some milliseconds; the next look-ups meet fewer.
local MOST, BURIED = 1000, 200

-- The entry written last among those of a range. `check`: only those with this one. `same`: all must carry the same
-- signature, else 'ambiguous'.
local function content_newest(g, q, now, bury, from, to, check, same)
  local id, u, entry
  local seen, buried = 0, 0
  for member in content_range(g.prefixes, from, to) do
    local one, used, found = string.sub(member, -16), nil, nil
    -- A shorter stretch is in the range only because the bytes behind it happen to go on like the query.
    if #member - 17 >= #q.stem then used, found = content_live(g, one, now) end
    if bury and not used and found and buried < BURIED then
      buried = buried + 1
      bury(one, found == 'expired', member)
    end
    seen = seen + 1
    if seen > MOST then return 'ambiguous' end
    if used and (not check or found[1] == check) then
      if same and entry and entry[2] ~= found[2] then return 'ambiguous' end
      if not entry or tonumber(found[3]) > tonumber(entry[3]) then id, u, entry = one, used, found end
    end
  end
  return id, u, entry
end

local function content_search(g, q, now, bury)
  local id, u, entry
  if q.stem == '' then return 'absent' end
  if string.find(q.levels, 'n') then
    id, u, entry = content_newest(g, q, now, bury, '[' .. q.stem .. '\0', '(' .. q.stem .. '\1', q.check, false)
    if u then return 'normalized', id, u, entry end
    if id then return id end
  end
  if string.find(q.levels, 'p') then
    -- No byte of UTF-8 is 255, so the last one can be counted up.
    local beyond = '(' .. string.sub(q.stem, 1, -2) .. string.char(string.byte(q.stem, -1) + 1)
    id, u, entry = content_newest(g, q, now, bury, '[' .. q.stem, beyond, nil, q.ambiguous ~= 'newest')
    if u then return 'prefix', id, u, entry end
    if id then return id end
  end
  return 'absent'
end
