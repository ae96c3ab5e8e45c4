#!lua flags=allow-oom
-- RENEW: whoever has a task extends the lease, and may tell how far it is.
-- Guarantee: as STEP's finish. A progress that is sent twice is told once.
-- KEYS[1] {ns.p}:e      keys built inside: g W w:<worker> t<slice> T j:<id> x v<hour> O P Q
-- ARGV: 1 worker · 2 generation · 3 id ‖ epoch · 4 lease ms · 5 progress, or '' · 6 event's id · 7 event · 8 its names
-- Reply: {now, 1 when cancelling was asked for, 1 when a task waited for what was told}; error LOST.
local worker, member = ARGV[1], ARGV[3]
local lost = redis.error_reply('LOST ' .. worker)
if go('HGET', base .. 'g', 'w' .. worker) ~= ARGV[2] then return lost end
if go('SISMEMBER', base .. 'w:' .. worker, member) == 0 then return lost end
local id = sub(member, 1, 14)
local record = workable(id)
if not record then return lost end
--{{tell}}
if #ARGV[5] > 0 then
  if bit.band(flags_of(record), JOURNAL) == 0 then store(id, with_flags(record, bit.bor(flags_of(record), JOURNAL))) end
  go('HSET', base .. 'j:' .. id, '\0p', ARGV[5])
  tell_event(ARGV[6], ARGV[7], ARGV[8])
end
go('ZADD', base .. 'W', now + ARGV[4], worker)
return {now, bit.band(flags_of(record), CANCEL), woken > 0 and 1 or 0}
