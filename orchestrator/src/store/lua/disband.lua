#!lua flags=allow-oom
-- DISBAND: removes a consumer group that nobody serves, with all that is kept of it.
-- KEYS[1] {ns.p}:e      keys built inside: G:<group> m:<group> d:<group>
-- ARGV: 1 group
-- Reply: 'served', 'unknown' or 'gone'.
local group = ARGV[1]
if redis.call('EXISTS', base .. 'G:' .. group) == 1 then return 'served' end
local known = redis.call('DEL', base .. 'm:' .. group, base .. 'd:' .. group)
local gone = redis.pcall('XGROUP', 'DESTROY', base .. 'e', group)
if type(gone) == 'number' then known = known + gone end
return known > 0 and 'gone' or 'unknown'
