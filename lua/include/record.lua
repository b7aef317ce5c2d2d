-- The records of a key's compiles. That of its latest version is the entry itself; it is written (see `keep_record`) when
-- the entry goes, is written over, or becomes an older version: most entries are compiled once, and a list costs more than
-- half of what they do.
--
-- format_record(cost, size, entry): 'tick written cost size length-of-hash ', the hash, and who made it; nil if that is not
-- known. entry: hash, written (ms), tick, metadata.
local function format_record(cost, size, entry)
  local length, from = string.match(entry[4] or '', '^(%d+) ()')
  if not (length and entry[1] and entry[2] and entry[3]) then return nil end
  return string.format('%s %s %.17g %d %d ', entry[3], entry[2], cost, size, #entry[1]) .. entry[1]
    .. string.sub(entry[4], from, from + length - 1)
end
