#!lua flags=allow-oom
-- HUSH: an inbox is told of a task no more.
-- KEYS[1] {ns.p}:e      keys built inside: n
-- ARGV: 1 id · 2 inbox
-- Reply: 1 when it was named, else 0.
local left, named = {}, 0
for name in string.gmatch(go('HGET', base .. 'n', ARGV[1]) or '', '%S+') do
  if name == ARGV[2] then named = 1 else left[#left + 1] = name end
end
if named == 1 and #left == 0 then call('HDEL', base .. 'n', ARGV[1]) end
if named == 1 and #left > 0 then call('HSET', base .. 'n', ARGV[1], concat(left, ' ')) end
return named
