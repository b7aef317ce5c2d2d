-- content_reply(entries, indexed, level, id, entry, now, text): what a client is told of an entry that was found: {level,
-- id, encoded signature, tick of the write, digest of the signature}; and when `text` is 'all', or 'inexact' and the level
-- is not exact, the age (ms), the encoded text, '' where it is the normalized one, and the normalized text.
local function content_reply(entries, indexed, level, id, entry, now, text)
  local reply = {level, id, entry[4], entry[3], entry[2]}
  if text == 'all' or (text == 'inexact' and level ~= 'exact') then
    local stored, index = redis.call('HGET', entries .. id, 'o'), redis.call('HGET', indexed, id) or ''
    local levels = string.byte(index, 9) or 255
    reply[6] = math.max(0, now - math.floor(tonumber(entry[3]) / 1000))
    reply[7] = stored
    reply[8] = levels < 255 and stored == '' and string.sub(index, 10 + 16 * levels) or ''
  end
  return reply
end
