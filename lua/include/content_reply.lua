-- content_reply(g, level, id, entry, now, text): what a client is told of an entry that was found: {level, id, encoded
-- signature, tick of the write, digest of the signature, age (ms), encoded text, normalized text}. Texts are sent when
-- `text` is 'all', or 'inexact' and the level is not exact; the encoded one is '' where it is the normalized one.
local function content_reply(g, level, id, entry, now, text)
  local age = math.max(0, now - math.floor(tonumber(entry[3]) / 1000))
  local reply = {level, id, entry[4], entry[3], entry[2], age}
  if text == 'all' or (text == 'inexact' and level ~= 'exact') then
    local stored, index = redis.call('HGET', g.entries .. id, 'o'), redis.call('HGET', g.indexed, id) or ''
    local levels = string.byte(index, 9) or 255
    reply[7] = stored
    reply[8] = levels < 255 and stored == '' and string.sub(index, 10 + 16 * levels) or ''
  end
  return reply
end
