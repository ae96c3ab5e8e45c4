#!lua flags=allow-oom
-- PAUSE / RESUME: stops or goes on handing out a queue's tasks. What runs goes on.
-- KEYS[1] {ns.p}:e      keys built inside: g q k:<q>
-- ARGV: 1 queue · 2 '1' pause, '0' resume
-- Reply: 1 when it changed something, else 0.
local queue = ARGV[1]
if ARGV[2] == '1' then
  go('SADD', base .. 'q', queue)
  local changed = go('HSET', base .. 'g', 'p' .. queue, '1')
  if changed == 1 then announce({'paused', queue}) end
  return changed
end
local changed = go('HDEL', base .. 'g', 'p' .. queue)
if changed == 1 then
  go('ZADD', base .. 'k:' .. queue, 0, 'x')
  announce({'resumed', queue})
end
return changed
