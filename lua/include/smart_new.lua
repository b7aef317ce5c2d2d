-- What a put says about an output, for the scripts that store one: slots after those of smart_keys, and `new`, which
-- names them.
local requests  = KEYS[12]            -- prefix of the marks of requests that took effect
local histories = KEYS[13]            -- zset: key id -> last write
local records   = KEYS[14]            -- prefix of the lists of records
local request   = ARGV[2]             -- id of this request; a repeat carries the same
local id        = ARGV[3]             -- the key's id
local key       = ARGV[4]             -- the key itself
local hash      = ARGV[5]             -- content hash of the source
local hash_id   = ARGV[6]             -- its id among versions
local output    = ARGV[7]             -- the encoded value
local size      = tonumber(ARGV[8])   -- int: bytes of the output
local cost      = tonumber(ARGV[9])   -- ms: compile time
local meta      = ARGV[10]            -- msgpack: dependencies, file, lines
local record    = ARGV[11]            -- msgpack: the history record
local links     = ARGV[12]            -- ids of the dependencies, 16 bytes each
local ttl_ms    = ARGV[13]            -- int: time to live, '' for the cache's own, 0 for ever
local imported  = ARGV[14]            -- '' or 'count last_ms written_ms', the past of an entry from a file

local new = {
  histories = histories, records = records, id = id, key = key, hash = hash, hash_id = hash_id, output = output,
  size = size, cost = cost, meta = meta, record = record, links = links, ttl_ms = ttl_ms, imported = imported,
  origin = '', grace_ms = 0,
}
