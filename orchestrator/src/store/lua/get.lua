#!lua flags=allow-oom
-- GET: one task, wherever it is.
-- KEYS[1] {ns.p}:e      keys built inside: t<slice> r:<q> z s c<slice> D<n> X
-- ARGV: 1 id
-- Reply: {'unknown'}, {'ended', value, children}, or {where, record, children, due ms or start ms or ''}
--        with where = 'ready', 'timer', 'shelf' or 'running'.
local id = ARGV[1]
local children = go('HGET', base .. 'c' .. sub(id, 1, 4), id) or ''
local record = records({id})[1]
if not record then
  local _, value = find_finished(id)
  return value and {'ended', value, children} or {'unknown'}
end
if not sound(id, record) then return {'running', record, children, ''} end
if bit.band(flags_of(record), SHELVED) ~= 0 then return {'shelf', record, children, ''} end
if go('ZSCORE', base .. 'r:' .. queue_of(record), id) then return {'ready', record, children, ''} end
local due = go('ZSCORE', base .. 'z', 'd' .. id)
if due then return {'timer', record, children, due} end
return {'running', record, children, go('HGET', base .. 's', id) or ''}
