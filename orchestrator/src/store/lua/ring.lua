#!lua flags=allow-oom
-- RING: puts a wake token back, or ends a blocking wait by a note. A plain command would be refused when memory is full.
-- KEYS[1] {ns.p}:e      keys built inside: k:<q> i:<inbox>
-- ARGV: 1 key behind the base · 2 token or note
-- Reply: 1 when it was not there yet, else 0.
local key = base .. ARGV[1]
return go('ZADD', key, 0, ARGV[2])
