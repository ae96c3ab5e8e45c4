#!lua flags=allow-oom
-- SCHEDULES: reads schedules: those that are due, or those that are named.
-- KEYS[1] {ns.p}:e      keys built inside: S S:<name> Z t<slice>
-- ARGV: 1 most of those that are due (1..100), or 0 · names (at most 100)
-- Reply: {now, then for each that there is: name, definition, its state as field, value, field …, 1 while its last run is live else 0}
local names = {unpack(ARGV, 2)}
if tonumber(ARGV[1]) > 0 then names = go('ZRANGEBYSCORE', base .. 'Z', '-inf', now, 'LIMIT', 0, tonumber(ARGV[1])) end
local reply = {format('%.0f', now)}
for _, name in ipairs(names) do
  local definition = go('HGET', base .. 'S', name)
  if definition then
    local state = go('HGETALL', base .. 'S:' .. name)
    local last = go('HGET', base .. 'S:' .. name, 'id') or ''
    reply[#reply + 1] = name
    reply[#reply + 1] = definition
    reply[#reply + 1] = state
    reply[#reply + 1] = #last == 14 and records({last})[1] and 1 or 0
  else
    -- A name without a schedule was not written by us, or is of one that was removed by hand.
    go('ZREM', base .. 'Z', name)
  end
end
return reply
