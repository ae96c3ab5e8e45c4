#!lua flags=allow-oom
-- OUTPUT: what a task has put out behind a place, and how it stands. When there is nothing, names the inbox to be told of
-- more, and of the task's end.
-- KEYS[1] {ns.p}:e      keys built inside: p:<id> t<slice> n D<n> X
-- ARGV: 1 id · 2 number of the last chunk that was read · 3 most entries · 4 inbox, or ''
-- Reply: {letter, entries, number of the newest chunk}; letter = c, f, x: how it had ended; 'l': it has not; 'n': it has not, and
--        16 inboxes are named already; 'u': nobody knows it.
local id, place, inbox = ARGV[1], tonumber(ARGV[2]), ARGV[4]
local key = base .. 'p:' .. id
local found, newest = go('XRANGE', key, format('%.0f', place + 1), '+', 'COUNT', ARGV[3]), '0'
if #found == 0 then
  local last = call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  newest = last and string.match(last[1], '^%d+') or '0'
end
local record = records({id})[1]
if not sound(id, record) then
  local _, value = find_finished(id)
  return {value and letter_of(value) or 'u', found, newest}
end
if inbox == '' or #found > 0 then return {'l', found, newest} end
local inboxes, n = go('HGET', base .. 'n', id) or '', 0
for name in string.gmatch(inboxes, '%S+') do
  n = n + 1
  if name == inbox then return {'l', found, newest} end
end
if n >= 16 then return {'n', found, newest} end
go('HSET', base .. 'n', id, n == 0 and inbox or inboxes .. ' ' .. inbox)
if bit.band(flags_of(record), AWAITED) == 0 then
  go('HSET', base .. 't' .. sub(id, 1, 4), id, with_flags(record, bit.bor(flags_of(record), AWAITED)))
end
return {'l', found, newest}
