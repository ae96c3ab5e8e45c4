#!lua flags=allow-oom
-- RECONCILE: after a lost reply the worker asks what it holds. The generation rises first: a STEP, RETRY, RELEASE or
-- SHELVE that is still under way carries the old one and is refused, so nothing slips in behind the answer.
-- KEYS[1] {ns.p}:e      keys built inside: g W w:<worker> t<slice> Q
-- ARGV: 1 worker · 2 new generation · 3 lease ms
-- Reply: {now, ids ‖ epochs held, record of each or ''}; error LOST.
local worker, generation = ARGV[1], tonumber(ARGV[2])
local present = go('HGET', base .. 'g', 'w' .. worker)
if not present or (tonumber(present) or math.huge) > generation then return redis.error_reply('LOST ' .. worker) end
go('HSET', base .. 'g', 'w' .. worker, ARGV[2])
go('ZADD', base .. 'W', now + ARGV[3], worker)
local members, ids = {}, {}
for _, member in ipairs(go('SMEMBERS', base .. 'w:' .. worker)) do
  if #member == 18 then
    members[#members + 1] = member
    ids[#members] = sub(member, 1, 14)
  else
    go('SREM', base .. 'w:' .. worker, member)
    go('LPUSH', base .. 'Q', 'member ' .. member)
    go('LTRIM', base .. 'Q', 0, 999)
  end
end
local reply = {now, table.concat(members)}
for i, record in ipairs(records(ids)) do reply[2 + i] = record or '' end
return reply
