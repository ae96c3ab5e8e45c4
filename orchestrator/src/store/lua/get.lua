#!lua flags=allow-oom
-- GET: one task, wherever it is.
-- KEYS[1] {ns.p}:e      keys built inside: t<slice> r:<q> z P s c<slice> D<n> X C C<n> j:<id>
-- ARGV: 1 id
-- Reply: {'unknown'}, or {where, record or value, children, number, state of its clock or '', progress or ''} with where = 'ready', 'timer',
--        'shelf', 'running', 'parked' or 'ended'; number = when it is due or was started, or of the parked: when the wait
--        is over ‖ ' ' ‖ number of its approval.
local id = ARGV[1]
local children = go('HGET', base .. 'c' .. sub(id, 1, 4), id) or ''
local record = records({id})[1]
if not record then
  local key, value = find_finished(id)
  if not value then return {'unknown'} end
  return {'ended', value, children, '', redis.call('HGET', base .. 'C' .. sub(key, #base + 2), id) or ''}
end
if not sound(id, record) then return {'running', record, children, ''} end
local flags = flags_of(record)
local state = bit.band(flags, CLOCKED) ~= 0 and go('HGET', base .. 'C', id) or ''
if bit.band(flags, ON_APPROVAL + ON_TIMER) ~= 0 then
  local over = go('ZSCORE', base .. 'P', 'p' .. id) or ''
  local n = bit.band(flags, JOURNAL) ~= 0 and go('HGET', base .. 'j:' .. id, bit.band(flags, GATED) ~= 0 and '\0w' or '\0n') or '0'
  return {'parked', record, children, over .. ' ' .. (n or '0'), state}
end
if bit.band(flags, SHELVED) ~= 0 then return {'shelf', record, children, '', state} end
if go('ZSCORE', base .. 'r:' .. queue_of(record), id) then return {'ready', record, children, '', state} end
local due = go('ZSCORE', base .. 'z', 'd' .. id)
if due then return {'timer', record, children, due, state} end
local progress = bit.band(flags, JOURNAL) ~= 0 and go('HGET', base .. 'j:' .. id, '\0p') or ''
return {'running', record, children, go('HGET', base .. 's', id) or '', state, progress}
