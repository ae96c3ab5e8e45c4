#!lua flags=allow-oom
-- BEAT: extends a worker's lease and tells it what else there is to do.
-- KEYS[1] {ns.p}:e      keys built inside: g W z P y B D<n> U s q r:<q> k:<q>
-- ARGV: 1 worker · 2 lease ms · 3 number of tasks p begun since the last beat · p × (id, start ms ‖ ' ' ‖ worker)
--       ids of tasks left since the last beat
-- Reply: {1, now, ms until the next timer or -1, number of shelved types, worker, lease, worker, lease ... of the 16
--         oldest leases}; {0} when the lease was lost.
local worker = ARGV[1]
if not go('HGET', base .. 'g', 'w' .. worker) then return {0} end
go('ZADD', base .. 'W', now + ARGV[2], worker)
-- STEP, which every task goes through, leaves the making of its bucket to the beat.
bucket(now)
-- Should a wake token ever have got lost, one of the workers, now and then, puts it back.
if now % math.max(1, go('ZCARD', base .. 'W')) == 0 then
  for _, queue in ipairs(go('SMEMBERS', base .. 'q')) do
    if go('ZCARD', base .. 'r:' .. queue) > 0 then token(queue) end
  end
end
local last = 3 + 2 * ARGV[3]
if last > 3 then go('HSET', base .. 's', unpack(ARGV, 4, last)) end
-- Whoever else has begun one of them since has it in its own name there.
if #ARGV > last then
  for i, told in ipairs(go('HMGET', base .. 's', unpack(ARGV, last + 1))) do
    if told and sub(told, -#worker - 1) == ' ' .. worker then call('HDEL', base .. 's', ARGV[last + i]) end
  end
end
local reply = {1, now, next_due(), go('SCARD', base .. 'U')}
for _, item in ipairs(go('ZRANGE', base .. 'W', 0, 15, 'WITHSCORES')) do reply[#reply + 1] = item end
return reply
