-- smart_reply(id, found, u, entry, left): what a read answers: {output, content hash}; and of an entry that expires, or
-- of an older version, also {ms until it expires, or less than 0 for never, us to make it, 1 if it is an older version,
-- its whole time to live (ms)}.
local function smart_reply(id, found, u, entry, left)
  if left < 0 and found == id then return {entry[1], entry[2]} end
  return {entry[1], entry[2], left, math.min(u.cost * 1000, 1e15), found == id and 0 or 1, u.ttl}
end
