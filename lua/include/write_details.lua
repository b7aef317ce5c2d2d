-- write_details(size, cost): what the event of a put says.
local function write_details(size, cost)
  return string.format('size=%d, compile_time=%.0fms', size, cost)
end
