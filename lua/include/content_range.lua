-- content_range(prefixes, from, to): iterate over the members of a range, read a few at a time.
local function content_range(prefixes, from, to)
  local members, at, step = {}, 0, 2
  return function()
    at = at + 1
    if not members[at] and (at == 1 or #members == step) then
      if at > 1 then from = '(' .. members[#members] end
      step = math.min(2 * step, 64)
      members, at = redis.call('ZRANGEBYLEX', prefixes, from, to, 'LIMIT', 0, step), 1
    end
    return members[at]
  end
end
