#!lua flags=allow-oom
-- STATS: counts, all at one instant.
-- KEYS[1] {ns.p}:e      keys built inside: q r:<q> g W w:<worker> z X U u:<type> P Q
-- Reply: {scheduled, dead, set aside, workers, running, shelved, blocked, queue, ready, paused 0/1, queue, ready, paused ...}
local running, shelved, own = 0, 0, 0
local workers = go('ZRANGE', base .. 'W', 0, 9999)
for _, worker in ipairs(workers) do
  running = running + go('SCARD', base .. 'w:' .. worker)
  -- Agents outside hold each task as a worker of its own.
  if sub(worker, 1, 2) ~= 'h:' then own = own + 1 end
end
for _, task_type in ipairs(go('SMEMBERS', base .. 'U')) do shelved = shelved + go('ZCARD', base .. 'u:' .. task_type) end
local reply = {go('ZCARD', base .. 'z'), go('ZCARD', base .. 'X'), go('LLEN', base .. 'Q'), own, running, shelved, go('ZCARD', base .. 'P')}
for _, queue in ipairs(go('SMEMBERS', base .. 'q')) do
  reply[#reply + 1] = queue
  reply[#reply + 1] = go('ZCARD', base .. 'r:' .. queue)
  reply[#reply + 1] = go('HEXISTS', base .. 'g', 'p' .. queue)
end
return reply
