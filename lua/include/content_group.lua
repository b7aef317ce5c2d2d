-- `g`, which names the slots of content_keys for the functions of the includes.
local g = {
  score = score, usage = usage, deadline = deadline, prefixes = prefixes, indexed = indexed, entries = entries,
}
