-- stale(): the reply that makes a client read the shared config again and repeat its call.
local function stale()
  return redis.error_reply('STALECONFIG the shared config is not the one this client read')
end
