#!lua flags=allow-oom
-- RECONCILE: after a lost reply the worker asks what it holds. The generation rises first: a STEP, RETRY, RELEASE or
-- SHELVE that is still under way carries the old one and is refused, so nothing slips in behind the answer.
-- KEYS[1] {ns.p}:e      keys built inside: g W w:<worker> t<slice>
-- ARGV: 1 worker · 2 new generation · 3 lease ms
-- Reply: {now, ids ‖ epochs held, record of each or ''}; error LOST.
local worker, generation = ARGV[1], tonumber(ARGV[2])
local present = go('HGET', base .. 'g', 'w' .. worker)
if not present or tonumber(present) > generation then return redis.error_reply('LOST ' .. worker) end
go('HSET', base .. 'g', 'w' .. worker, ARGV[2])
go('ZADD', base .. 'W', now + ARGV[3], worker)
local members, ids = go('SMEMBERS', base .. 'w:' .. worker), {}
for i, member in ipairs(members) do ids[i] = sub(member, 1, 14) end
local reply = {now, table.concat(members)}
for i, record in ipairs(records(ids)) do reply[2 + i] = record or '' end
return reply
