#!lua flags=allow-oom
-- CANCEL: ends a waiting task at once; asks the worker of a running one to stop.
-- KEYS[1] {ns.p}:e      keys built inside: t<slice> r:<q> z U u:<type> W w:<worker> i:<worker> D<n> B X n i:<inbox>
-- ARGV: 1 id · 2 letter ‖ ending
-- Reply: 'cancelled', 'requested', 'unknown', or the letter of how it had ended before.
local id = ARGV[1]
local record = records({id})[1]
if not record then
  local _, value = find_finished(id)
  return value and letter_of(value) or 'unknown'
end
if not sound(id, record) then quarantine(id, record) return 'unknown' end
local waiting = go('ZREM', base .. 'r:' .. queue_of(record), id) + go('ZREM', base .. 'z', 'd' .. id)
if bit.band(flags_of(record), SHELVED) ~= 0 then
  record = with_flags(record, bit.band(flags_of(record), 65535 - SHELVED))
  for _, task_type in ipairs(go('SMEMBERS', base .. 'U')) do
    waiting = waiting + go('ZREM', base .. 'u:' .. task_type, id)
    if go('ZCARD', base .. 'u:' .. task_type) == 0 then go('SREM', base .. 'U', task_type) end
  end
end
if waiting == 0 then
  local member = id .. sub(record, 2, 5)
  for _, worker in ipairs(go('ZRANGE', base .. 'W', 0, 999)) do
    if go('SISMEMBER', base .. 'w:' .. worker, member) == 1 then
      go('HSET', base .. 't' .. sub(id, 1, 4), id, with_flags(record, bit.bor(flags_of(record), CANCEL)))
      go('ZADD', base .. 'i:' .. worker, 0, 'c' .. id)
      go('EXPIRE', base .. 'i:' .. worker, 3600)
      return 'requested'
    end
  end
end
-- Waiting, or in no index at all because somebody else deleted one: either way nobody runs it.
announce({'e', finish(id, raise(record, 1, 1, 0, 0), ARGV[2])})
return 'cancelled'
