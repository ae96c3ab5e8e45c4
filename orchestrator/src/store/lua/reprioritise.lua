#!lua flags=allow-oom
-- REPRIORITISE: gives a task that has not ended another priority, in its record and in its place, and tells of it. A running
-- one keeps running: the new priority counts from when it comes back to its queue.
-- Guarantee: its place keeps the time that it came at; sent twice it changes and tells once.
-- KEYS[1] {ns.p}:e      keys built inside: t<slice> T r:<q> u:<type> z D<n> X x v<hour> O P Q
-- ARGV: 1 id · 2 priority (0..3) · 3 the priority that the caller has seen · 4 its task type · 5 event's id · 6 event · 7 its names
-- Reply: {now, how it stands, number of tasks that waited for what was told}; how it stands is 'ready', 'shelf', 'timer',
--        'parked' or 'running', or 'changed' when it has neither of both priorities, 'unknown', or the letter of how it had ended.
local id, priority = ARGV[1], tonumber(ARGV[2])
local record = workable(id)
if not record then
  local _, value = find_finished(id)
  return {now, value and letter_of(value) or 'unknown', 0}
end
local flags, old = flags_of(record), byte(record, 13)
local key, place = base .. 'r:' .. queue_of(record), 'ready'
if bit.band(flags, SHELVED) ~= 0 then key, place = base .. 'u:' .. ARGV[4], 'shelf' end
if bit.band(flags, ON_APPROVAL + ON_TIMER) ~= 0 then
  key, place = nil, 'parked'
elseif go('ZSCORE', base .. 'z', 'd' .. id) then
  key, place = nil, 'timer'
end
local score = key and go('ZSCORE', key, id)
if place == 'ready' and not score then place = 'running' end
if old == priority then return {now, place, 0} end
if old ~= tonumber(ARGV[3]) then return {now, 'changed', 0} end
--{{tell}}
tell_event(ARGV[5], ARGV[6], ARGV[7])
go('HSET', base .. 't' .. sub(id, 1, 4), id, sub(record, 1, 12) .. char(priority) .. sub(record, 14))
if score then
  -- One that was raised on the shelf lies there with the priority that it had before.
  local at = place == 'shelf' and created_at(id) or time_part(tonumber(score), old)
  go('ZADD', key, 'XX', format('%.0f', priority * CLASS + at), id)
end
return {now, place, woken}
