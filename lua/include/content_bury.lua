-- content_bury(g, s): what a search that may write does with the dead it meets, so that they are met once: a function
-- (id, expired, member) for an entry that has expired or is gone, and the member of the index that led to it.
local function content_bury(g, s)
  return function(id, expired, member)
    if member then redis.call('ZREM', g.prefixes, member) end
    drop(g, s, id)
    if expired then s.expirations = s.expirations + 1 end
  end
end
