-- How the rest of the state is packed (see `state`), behind what is packed as HOT.
local COLD = '<ddddddddddd'
