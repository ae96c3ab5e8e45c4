#!lua flags=allow-oom
-- AWAIT: names the inbox to be told when a task ends, unless it has ended already.
-- KEYS[1] {ns.p}:e      keys built inside: t<slice> n D<n> X
-- ARGV: 1 id · 2 inbox
-- Reply: {'wait'}, {'unknown'}, {'full'} (16 wait already), or {'ended', finished value}.
local id, inbox = ARGV[1], ARGV[2]
local record = records({id})[1]
if not sound(id, record) then
  local _, value = find_finished(id)
  return value and {'ended', value} or {'unknown'}
end
local inboxes, n = go('HGET', base .. 'n', id) or '', 0
for name in string.gmatch(inboxes, '%S+') do
  n = n + 1
  if name == inbox then return {'wait'} end
end
if n == 16 then return {'full'} end
go('HSET', base .. 'n', id, n == 0 and inbox or inboxes .. ' ' .. inbox)
if bit.band(flags_of(record), AWAITED) == 0 then
  go('HSET', base .. 't' .. sub(id, 1, 4), id, with_flags(record, bit.bor(flags_of(record), AWAITED)))
end
return {'wait'}
