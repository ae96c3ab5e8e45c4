#!lua flags=allow-oom
-- SHELVE: lays a task aside whose type this worker does not handle. Counts no attempt.
-- Guarantee: as STEP's finish. A task whose cancelling was asked for meanwhile ends as cancelled instead.
-- KEYS[1] {ns.p}:e      keys built inside: g w:<worker> t<slice> T u:<type> U z D<n> B n i:<inbox> C C<n> y l Q
-- ARGV: 1 worker · 2 generation · 3 id ‖ epoch · 4 task type · 5 letter ‖ ending, should it be cancelled
-- Reply: 'shelved', 'cancelled' or 'stale'; error LOST.
local worker, member, task_type = ARGV[1], ARGV[3], ARGV[4]
if go('HGET', base .. 'g', 'w' .. worker) ~= ARGV[2] then return redis.error_reply('LOST ' .. worker) end
local id = sub(member, 1, 14)
local record = go('SREM', base .. 'w:' .. worker, member) == 1 and workable(id)
if not record then return 'stale' end
record = raise(record, 1, 2, 0, 0)
if bit.band(flags_of(record), CANCEL) ~= 0 then
  local ended, late = finish(id, record, ARGV[5])
  announce({'e', ended, 'V', late, 'w', worker})
  return 'cancelled'
end
record = with_flags(record, bit.bor(flags_of(record), SHELVED))
give_back(id, record, 'q')
may_expire(id, record, true)
go('ZADD', base .. 'u:' .. task_type, byte(record, 13) * CLASS + created_at(id), id)
go('SADD', base .. 'U', task_type)
announce({'h', element(id, record), 'w', worker})
return 'shelved'
