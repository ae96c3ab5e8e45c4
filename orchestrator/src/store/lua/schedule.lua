#!lua flags=allow-oom
-- SCHEDULE: changes one schedule. Guarantee: what depends on what the caller has read changes nothing when that is no longer so.
-- KEYS[1] {ns.p}:e      keys built inside: S S:<name> Z N t<slice>
-- ARGV: 1 what to do · 2 schedule, and
--       put: 3 digest of the definition that is there or '' · 4 the tick that it waits for (ms) or '' · 5 definition · 6 its next
--            tick · 7 most schedules · 8 '1' when ticks may wait
--       remove · pause: 3 who · resume: 3 digest · 4 next tick
--       defer: 3 digest · 4 the tick that it waits for · 5 when to look again (ms) or '' · 6 why, or ''
--       drop: 3 digest · 4 the tick that it waits for · 5 the one behind or '' · 6 why · 7 ticks missed · 8 the tick that waits and is
--             dropped (ms), or ''
-- Reply: 'done', 'same' when it was so before, 'other' when it is not as read, 'none', or 'full'.
local what, name = ARGV[1], ARGV[2]
local state = base .. 'S:' .. name
local definition = go('HGET', base .. 'S', name) or ''
local digest = sub(definition, 1, 8)
-- What is left of one whose definition was lost says nothing of one that is put in its place.
local known = definition ~= '' and go('HMGET', state, 'n', 'id', 'w', 'p') or {}
local awaited, last, waiting, paused = known[1] or '', known[2] or '', known[3] or '', known[4]
-- Somebody else has cut it short.
waiting = sub(waiting, 1, #waiting - #waiting % 6)

local function look_at(tick)
  if paused or tick == '' then go('ZREM', base .. 'Z', name) else go('ZADD', base .. 'Z', tick, name) end
end

if what == 'put' then
  if digest ~= ARGV[3] or awaited ~= ARGV[4] then return 'other' end
  if digest == '' then
    if go('HLEN', base .. 'S') >= tonumber(ARGV[7]) then return 'full' end
    local left = go('HGET', state, 'id')
    if left then go('HDEL', base .. 'N', left) end
    redis.call('DEL', state)
    go('HSET', state, 'ca', now)
  end
  go('HSET', base .. 'S', name, ARGV[5])
  if definition ~= ARGV[5] then
    go('HSET', state, 'ua', now)
    go('HDEL', state, 'e', 'ea')
  end
  if not paused then go('HSET', state, 'n', ARGV[6]) end
  if ARGV[8] ~= '1' then
    if waiting ~= '' then
      go('HDEL', state, 'w')
      go('HINCRBY', state, 's', #waiting / 6)
      waiting = ''
    end
    if last ~= '' then go('HDEL', base .. 'N', last) end
  elseif last ~= '' then
    wait_for(last, name)
  end
  look_at(waiting ~= '' and now or ARGV[6])
  return 'done'
end
if definition == '' then
  go('ZREM', base .. 'Z', name)
  return 'none'
end
if what == 'remove' then
  if last ~= '' then go('HDEL', base .. 'N', last) end
  go('ZREM', base .. 'Z', name)
  go('HDEL', base .. 'S', name)
  redis.call('DEL', state)
  return 'done'
end
if what == 'pause' then
  if paused then return 'same' end
  go('HSET', state, 'p', ARGV[3])
  go('HDEL', state, 'n')
  go('ZREM', base .. 'Z', name)
  return 'done'
end
if what == 'resume' then
  if not paused then return 'same' end
  if digest ~= ARGV[3] then return 'other' end
  paused = false
  go('HDEL', state, 'p')
  go('HSET', state, 'n', ARGV[4])
  -- Whoever looks finds out whether one that waits may go on.
  look_at(waiting ~= '' and now or ARGV[4])
  return 'done'
end
if digest ~= ARGV[3] or awaited ~= ARGV[4] then return 'other' end
if ARGV[6] ~= '' then go('HSET', state, 'e', ARGV[6], 'ea', now) end
if what == 'drop' then
  if ARGV[8] ~= '' and sub(waiting, 1, 6) == pack('>I6', ARGV[8]) then
    waiting = sub(waiting, 7)
    if waiting == '' then go('HDEL', state, 'w') else go('HSET', state, 'w', waiting) end
  end
  go('HSET', state, 'n', ARGV[5])
  go('HINCRBY', state, 'm', ARGV[7])
end
-- Who found nothing to do may have looked before the run ended that a tick waits for.
local idle = what == 'defer' and ARGV[6] == ''
look_at((what == 'drop' or idle and not (#last == 14 and records({last})[1])) and waiting ~= '' and now or ARGV[5])
return 'done'
