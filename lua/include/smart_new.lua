-- What a put says about an output, for the scripts that store one: slots after those of smart_keys.
local requests  = KEYS[16]            -- prefix of the marks of requests that took effect
local request   = ARGV[2]             -- id of this request; a repeat carries the same
local id        = ARGV[3]             -- the key's id
local key       = ARGV[4]             -- the key itself
local hash      = ARGV[5]             -- content hash of the source
local hash_id   = ARGV[6]             -- its id among versions
local output    = ARGV[7]             -- the encoded value
local size      = tonumber(ARGV[8])   -- int: bytes of the output
local cost      = tonumber(ARGV[9])   -- ms: compile time
local meta      = ARGV[10]            -- length of the producer's name, the name; msgpack: dependencies, file, lines
local links     = ARGV[11]            -- ids of the dependencies, 16 bytes each
local ttl_ms    = ARGV[12]            -- int: time to live, '' for the cache's own, 0 for ever
local imported  = ARGV[13]            -- '' or 'count last_ms written_ms', the past of an entry from a file
