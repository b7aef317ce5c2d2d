-- How what came after a key is packed (see `learn.lua`), and
-- weight(packed, t): log2 of an aged count at the time t; nothing of a value that is none, which then counts as new.
local CLOCK, TOLD, WEIGHT, NEXT, SOON = '', '<dBB', '<d', 'n', 's'
local struct_unpack = struct.unpack
local function weight(packed, t)
  local f = #packed == 8 and struct_unpack(WEIGHT, packed)
  return f and f - f == 0 and f < t + 8 and f
end

-- clock_of(packed): the clock, and how many fields there are of each kind; zeros of what is no clock.
local function clock_of(packed)
  if not packed or #packed ~= 10 then return 0, 0, 0 end
  local t, nexts, soons = struct_unpack(TOLD, packed)
  if not (t >= 0 and t < 2 ^ 40) then t = 0 end
  return t, nexts, soons
end

-- by_weight(fields, kind, t): the names of one kind out of what HGETALL gives, the heaviest first.
local function by_weight(fields, kind, t)
  local names, weights, wanted = {}, {}, string.byte(kind)
  for at = 1, #fields, 2 do
    local field = fields[at]
    if string.byte(field) == wanted then
      names[#names + 1] = field
      weights[field] = weight(fields[at + 1], t) or -math.huge
    end
  end
  table.sort(names, function(a, b)
    if weights[a] ~= weights[b] then return weights[a] > weights[b] end
    return a > b
  end)
  return names
end
