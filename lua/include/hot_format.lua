-- How the part of the state is packed that every read needs and changes, and the least length of the whole; what follows
-- that part is s.cold (see `hot_state`).
local HOT, STATE_BYTES = '<dddddddddddddBc0Bc0Bc0', 195
