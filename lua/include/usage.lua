-- parse_usage(text), format_usage(u): what is known of an entry's use, packed in the hash `usage`: count (hits), last
-- (ms), size (bytes), cost (ms to make it), deadline (ms, 0 for none), ttl (ms), f (the policy's F) and its mark ('-' for
-- none, see `ghost`). A text that is none, or has no number where one belongs, reads as that of an entry that has long
-- expired.
--@include usage_format
local function parse_usage(text)
  local count, last, size, cost, deadline, ttl, f, mark
  if #text == USAGE_BYTES then count, last, size, cost, deadline, ttl, f, mark = struct.unpack(USAGE, text) end
  -- What is no number, or infinite, is not nothing when taken from itself.
  if not f or f - f ~= 0 or cost - cost ~= 0 then
    count, last, size, cost, deadline, ttl, f, mark = 0, 0, 0, 0, 1, 1, 0, '-'
  end
  return {count = count, last = last, size = size, cost = cost, deadline = deadline, ttl = ttl, f = f, mark = mark}
end

local function format_usage(u)
  return struct.pack(USAGE, u.count, u.last, u.size, u.cost, u.deadline, u.ttl, u.f, u.mark)
end
