-- parse_usage(text), format_usage(u): what is known of an entry's use, one string in the hash `usage`:
-- count (hits), last (ms), size (bytes), cost (ms to make it), deadline (ms, 0 for none), ttl (ms), f (the policy's
-- F, with its mark: see `ghost`). A text that is none reads as that of an entry that has long expired.
local function parse_usage(text)
  local count, last, size, cost, deadline, ttl, f, mark =
    string.match(text, '^(%d+) (%d+) (%d+) (%S+) (%d+) (%d+) (%S-)([rw]?)$')
  if not (tonumber(cost) and tonumber(f)) then
    return {count = 0, last = 0, size = 0, cost = 0, deadline = 1, ttl = 1, f = 0, mark = ''}
  end
  return {
    count = tonumber(count), last = tonumber(last), size = tonumber(size), cost = tonumber(cost),
    deadline = tonumber(deadline), ttl = tonumber(ttl), f = tonumber(f), mark = mark,
  }
end

local function format_usage(u)
  return string.format('%d %d %d %.17g %d %d %.17g%s', u.count, u.last, u.size, u.cost, u.deadline, u.ttl, u.f, u.mark)
end
