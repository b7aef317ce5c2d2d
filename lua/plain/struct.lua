-- Put before a script where a server does not take it as it is: the library `struct` as far as the scripts use it, for
-- fakeredis, which lacks it. Little-endian ('<') 'd', 'I6', 'B', 'c1', and 'c0', whose length stands before it.
local struct = struct or (function()
local struct = {}

local function integer(number, bytes)
  local text = {}
  for i = 1, bytes do
    text[i] = string.char(number % 256)
    number = math.floor(number / 256)
  end
  return table.concat(text)
end

local function whole(text, at, bytes)
  local number = 0
  for i = at + bytes - 1, at, -1 do number = number * 256 + string.byte(text, i) end
  return number
end

-- IEEE 754: sign, exponent (11 bits), fraction (52 bits).
local function double(number)
  if number == 0 then return string.rep('\0', 8) end
  local sign = number < 0 and 128 or 0
  local fraction, exponent = math.frexp(math.abs(number))
  exponent = exponent + 1022
  fraction = fraction * 2 ^ 53 - 2 ^ 52
  local low, high = integer(fraction % 2 ^ 48, 6), math.floor(fraction / 2 ^ 48)
  return low .. string.char(exponent % 16 * 16 + high, sign + math.floor(exponent / 16))
end

local function number(text, at)
  local last, sixth = string.byte(text, at + 7), string.byte(text, at + 6)
  local exponent = last % 128 * 16 + math.floor(sixth / 16)
  if exponent == 0 then return 0 end
  local fraction = (sixth % 16) * 2 ^ 48 + whole(text, at, 6)
  return (last > 127 and -1 or 1) * (1 + fraction / 2 ^ 52) * 2 ^ (exponent - 1023)
end

function struct.pack(format, ...)
  local values, parts, at = {...}, {}, 0
  for item in string.gmatch(format, '%a%d*') do
    at = at + 1
    if item == 'd' then
      parts[at] = double(values[at])
    elseif item == 'B' or item == 'I6' then
      parts[at] = integer(values[at], item == 'B' and 1 or 6)
    else
      parts[at] = values[at]
    end
  end
  return table.concat(parts)
end

function struct.unpack(format, text, at)
  local values = {}
  at = at or 1
  for item in string.gmatch(format, '%a%d*') do
    if item == 'd' then
      values[#values + 1], at = number(text, at), at + 8
    elseif item == 'B' or item == 'I6' then
      local bytes = item == 'B' and 1 or 6
      values[#values + 1], at = whole(text, at, bytes), at + bytes
    else
      local length = item == 'c1' and 1 or table.remove(values)
      values[#values + 1], at = string.sub(text, at, at + length - 1), at + length
    end
  end
  values[#values + 1] = at
  return unpack(values)
end

return struct
end)()
