#!lua flags=allow-oom
-- RETRY: an attempt failed, or is put off, and another follows after a delay. Counts the attempt if it failed. No wake token: the caller knows
-- when the timer is due, and every heartbeat learns it.
-- Guarantee: as STEP's finish. A task whose cancelling was asked for meanwhile ends as cancelled instead.
-- KEYS[1] {ns.p}:e      keys built inside: g w:<worker> t<slice> T z D<n> B n i:<inbox> C C<n> y l Q
-- ARGV: 1 worker · 2 generation · 3 id ‖ epoch · 4 delay ms · 5 new body · 6 letter ‖ ending, should it be cancelled
--       7 1 = counts an attempt, 0 = counts none
-- Reply: 'pending', 'cancelled' or 'stale'; error LOST.
local worker, member = ARGV[1], ARGV[3]
if go('HGET', base .. 'g', 'w' .. worker) ~= ARGV[2] then return redis.error_reply('LOST ' .. worker) end
if go('SISMEMBER', base .. 'w:' .. worker, member) == 0 then return 'stale' end
local id = sub(member, 1, 14)
local record = workable(id)
go('SREM', base .. 'w:' .. worker, member)
if not record then return 'stale' end
record = raise(record, 1, 2, tonumber(ARGV[7]), 0)
if bit.band(flags_of(record), CANCEL) ~= 0 then
  local ended, late = finish(id, record, ARGV[6])
  announce({'e', ended, 'V', late, 'w', worker})
  return 'cancelled'
end
record = sub(record, 1, 16 + byte(record, 16)) .. ARGV[5]
give_back(id, record, 'q')
may_expire(id, record, true)
go('ZADD', base .. 'z', now + ARGV[4], 'd' .. id)
announce({'y', element(id, record), 'w', worker})
return 'pending'
