#!lua flags=allow-oom
-- MEND: sets keys of the wrong type aside (as bad:<key>), so that a poke from outside stops nothing for long. Called
-- when a script that does without the shared functions, or a plain read, met one; what met it is then sent again.
-- KEYS[1] {ns.p}:e      keys built inside: all
-- ARGV: 1 worker, waiting client or '' · 2 number of queues n · n queues · slices (4 bytes each)
-- Reply: number of keys set aside.
local wrong = 0
local function expect(name, kind)
  local present = redis.call('TYPE', base .. name).ok
  if present ~= 'none' and present ~= kind then
    set_aside(base .. name)
    wrong = wrong + 1
  end
end
for name, kind in pairs({e = 'stream', T = 'zset', q = 'set', z = 'zset', g = 'hash', W = 'zset', n = 'hash', B = 'zset',
    X = 'zset', U = 'set', s = 'hash', h = 'hash', Q = 'list', C = 'hash', P = 'zset', y = 'zset', A = 'zset', H = 'zset', audit = 'stream',
    x = 'zset', O = 'hash', l = 'hash', M = 'hash', quiet = 'hash', S = 'hash', Z = 'zset', N = 'hash'}) do expect(name, kind) end
expect('v' .. math.floor(call('TIME')[1] / 3600), 'hash')
for _, at in ipairs({now, now + DEAD_SHIFT}) do expect('D' .. math.floor(at / BUCKET), 'hash') end
if ARGV[1] ~= '' then
  expect('w:' .. ARGV[1], 'set')
  expect('i:' .. ARGV[1], 'zset')
  expect('i:' .. ARGV[1] .. '.o', 'zset')
end
local last = 2 + ARGV[2]
for i = 3, last do
  expect('k:' .. ARGV[i], 'zset')
  expect('r:' .. ARGV[i], 'zset')
  for _, id in ipairs(go('ZRANGE', base .. 'r:' .. ARGV[i], 0, 255)) do expect('t' .. sub(id, 1, 4), 'hash') end
end
for i = last + 1, #ARGV do expect('t' .. ARGV[i], 'hash') expect('c' .. ARGV[i], 'hash') end
return wrong
