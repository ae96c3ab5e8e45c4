#!lua flags=allow-oom
-- TICK: does what is due. Any process may call it at any time: moving and removing are one, so nothing fires twice.
-- Drops at most one bucket of finished tasks a call, and forgets up to 8 slices that have emptied.
-- KEYS[1] {ns.p}:e      keys built inside: z t<slice> T r:<q> q k:<q> B D<n> X Q
-- ARGV: 1 most timers to fire (1..100)
-- Reply: {timers fired, ms until the next or -1}; call again while the first is the most.
local due = go('ZRANGEBYSCORE', base .. 'z', '-inf', now, 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[1]))
local moved = {}
for i = 1, #due, 2 do
  local timer, at = due[i], tonumber(due[i + 1])
  local id = sub(timer, 2)
  local record = #id == 14 and records({id})[1]
  go('ZREM', base .. 'z', timer)
  if sub(timer, 1, 1) == 'd' and sound(id, record) then
    record = raise(record, 0, 1, 0, 0)
    store(id, record)
    ready(id, record, at)
    moved[#moved + 1] = element(id, record)
  elseif record and not sound(id, record) then
    quarantine(id, record)
  else
    go('LPUSH', base .. 'Q', 'timer ' .. timer)
    go('LTRIM', base .. 'Q', 0, 999)
  end
end
if #moved > 0 then announce({'p', table.concat(moved)}) end

local old = go('ZRANGEBYSCORE', base .. 'B', '-inf', now, 'LIMIT', 0, 1)
if old[1] then
  go('ZREM', base .. 'B', old[1])
  redis.call('UNLINK', base .. 'D' .. old[1])
  -- What is no number was not written by us, and there are no dead letters in it.
  local n = tonumber(old[1])
  if n then go('ZREMRANGEBYSCORE', base .. 'X', '-inf', '(' .. string.format('%.0f', (n + 1) * BUCKET - DEAD_SHIFT)) end
end
for _, slice in ipairs(go('ZRANGE', base .. 'T', 0, 7)) do
  if redis.call('EXISTS', base .. 't' .. slice) == 0 then go('ZREM', base .. 'T', slice) end
end
return {#due / 2, next_due()}
