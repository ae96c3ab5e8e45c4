#!lua flags=allow-oom
-- LEAVE: a worker's incarnation ends in order. One that still holds tasks stays, to be rescued.
-- KEYS[1] {ns.p}:e      keys built inside: W g w:<worker> i:<worker> s
-- ARGV: 1 worker · ids of tasks that it reported as running
-- Reply: number of tasks it still holds; 0 = it has left.
local worker = ARGV[1]
local left = go('SCARD', base .. 'w:' .. worker)
if left == 0 then
  go('HDEL', base .. 'g', 'w' .. worker)
  go('ZREM', base .. 'W', worker)
  redis.call('DEL', base .. 'i:' .. worker)
end
if #ARGV > 1 then go('HDEL', base .. 's', unpack(ARGV, 2)) end
return left
