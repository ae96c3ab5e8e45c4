#!lua flags=allow-oom
-- JOIN: a worker's incarnation begins: lease, first generation, and what it handles.
-- KEYS[1] {ns.p}:e      keys built inside: W g h q B D<n>
-- ARGV: 1 worker · 2 lease ms · 3 number of queues n · n queues · any number of (task type, description)
-- Reply: {now}; error TAKEN when the name is in use.
local worker, n = ARGV[1], tonumber(ARGV[3])
if go('HSETNX', base .. 'g', 'w' .. worker, '1') == 0 then return redis.error_reply('TAKEN ' .. worker) end
go('ZADD', base .. 'W', now + ARGV[2], worker)
bucket(now)
for i = 4, 3 + n do go('SADD', base .. 'q', ARGV[i]) end
if #ARGV > 3 + n then go('HSET', base .. 'h', unpack(ARGV, 4 + n)) end
return {now}
