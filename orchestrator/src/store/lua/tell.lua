-- Telling an event, and bringing forward the end of the wait of tasks that wait for it.
-- Keys built inside: e x v<hour> O P
-- An event's names are lines `type key`, one for each thing that it is about: by these it is waited for, and found for a day.
local NAMED_HOURS = 25
local woken, trimmed, room, kept = 0, false, {}, {}

local function tell_event(id, body, names)
  -- Ids seen of late, for as long as a send may be repeated.
  if not trimmed then go('ZREMRANGEBYSCORE', base .. 'x', '-inf', now - 120000) end
  trimmed = true
  if go('ZADD', base .. 'x', 'NX', now, id) == 0 then return end
  local at = go('XADD', base .. 'e', 'MAXLEN', '~', EVENTS_MAX, '*', 'P', id .. body)
  if names == '' then return end
  local hour = base .. 'v' .. math.floor(string.match(at, '^%d+') / 3600000)
  room[hour] = room[hour] or EVENTS_MAX - go('HLEN', hour)
  for name in string.gmatch(names, '[^\n]+') do
    if room[hour] > 0 then room[hour] = room[hour] - go('HSET', hour, name, at) end
    local waiting = go('HGET', base .. 'O', name) or ''
    for x = 1, #waiting, 14 do
      woken = woken + go('ZADD', base .. 'P', 'XX', 'CH', now, 'p' .. sub(waiting, x, x + 13))
    end
  end
  if not kept[hour] then call('PEXPIRE', hour, NAMED_HOURS * 3600000, 'NX') end
  kept[hour] = true
end
