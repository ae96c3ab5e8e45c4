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
-- Whoever else has begun one of them since has it in its own name there; and an agent outside may have its task again.
if #ARGV > 1 and (left == 0 or sub(worker, 1, 2) ~= 'h:') then
  for i, told in ipairs(go('HMGET', base .. 's', unpack(ARGV, 2))) do
    if told and sub(told, -#worker - 1) == ' ' .. worker then call('HDEL', base .. 's', ARGV[i + 1]) end
  end
end
return left
