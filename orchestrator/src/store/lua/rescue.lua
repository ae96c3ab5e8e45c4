#!lua flags=allow-oom
-- RESCUE: takes the tasks of a worker that fell silent back. Counts a crash, not an attempt.
-- Guarantee: acts only while Redis's clock says the lease is over and the lease is still the one the caller watched for
-- a whole lease on its own monotonic clock. The worker's generation goes first, so nothing of it is accepted afterwards.
-- KEYS[1] {ns.p}:e      keys built inside: W g w:<worker> i:<worker> s t<slice> T r:<q> q k:<q> z D<n> B X n
--                       i:<inbox> C C<n> y l Q
-- ARGV: 1 worker · 2 lease seen · 3 most tasks to move (1..100) · 4 crashes that make poison
--       5 letter ‖ ending of poison · 6 letter ‖ ending of a cancelled one
-- Reply: {tasks moved, tasks left}; {-1, 0} when there is nothing to rescue.
local worker = ARGV[1]
local lease = go('ZSCORE', base .. 'W', worker)
if not lease or tonumber(lease) ~= tonumber(ARGV[2]) or tonumber(lease) > now then return {-1, 0} end
go('HDEL', base .. 'g', 'w' .. worker)
local held = base .. 'w:' .. worker
local back, ended, violated = {}, {}, ''
local members = go('SRANDMEMBER', held, tonumber(ARGV[3]))
for _, member in ipairs(members) do
  local id = sub(member, 1, 14)
  local record = #member == 18 and records({id})[1]
  go('SREM', held, member)
  go('HDEL', base .. 's', id)
  if record and not sound(id, record) then
    quarantine(id, record)
  elseif record and sub(record, 2, 5) == sub(member, 15, 18) then
    local late = ''
    record = raise(record, 1, 2, 0, 1)
    if bit.band(flags_of(record), CANCEL) ~= 0 then
      ended[#ended + 1], late = finish(id, record, ARGV[6])
    elseif byte(record, 11) >= tonumber(ARGV[4]) then
      ended[#ended + 1], late = finish(id, record, ARGV[5])
    else
      give_back(id, record, 'q')
      may_expire(id, record, true)
      ready(id, record, created_at(id))
      back[#back + 1] = element(id, record)
    end
    violated = violated .. late
  end
end
local left = go('SCARD', held)
if left == 0 then
  go('ZREM', base .. 'W', worker)
  redis.call('DEL', base .. 'i:' .. worker)
  -- It may have died with a wake token in its hand.
  for _, queue in ipairs(go('SMEMBERS', base .. 'q')) do
    if go('ZCARD', base .. 'r:' .. queue) > 0 then token(queue) end
  end
end
local event = {}
if #back > 0 then event = {'z', table.concat(back)} end
if #ended > 0 then event[#event + 1] = 'e' event[#event + 1] = table.concat(ended) end
if #violated > 0 then event[#event + 1] = 'V' event[#event + 1] = violated end
if #event > 0 then event[#event + 1] = 'w' event[#event + 1] = worker end
announce(event)
return {#members, left}
