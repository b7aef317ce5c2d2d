-- The keys of what was evicted of late, for the scripts that evict or clear: slots 7 and 8, behind those of content_keys.
local ghost     = KEYS[7]  -- hash: entries evicted of late
local ghost_old = KEYS[8]  -- hash: the generation before
