-- write_state(usage, s, id, u): write all of the state, and the use of an entry if one is given.
--@include state
--@include write_hot
local function write_state(usage, s, id, u)
  freeze(s)
  if u then
    write_hot(usage, s, id, format_usage(u))
  else
    write_hot(usage, s)
  end
end
