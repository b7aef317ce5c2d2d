-- How a usage record is packed (see `usage`), and its length.
local USAGE, USAGE_BYTES = '<I6I6I6dI6I6dc1', 47
