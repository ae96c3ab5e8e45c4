-- Telling an event, and bringing forward the end of the wait of tasks that wait for it.
-- Keys built inside: e x v<hour> O P
-- An event's names are lines `type key`, one for each thing that it is about: by these it is waited for, and found for a day.
local NAMED_HOURS = 25
local woken, trimmed, kept, room = 0, false, false, nil

local hour = base .. 'v' .. math.floor(call('TIME')[1] / 3600)

local function tell_event(id, body, names)
  -- What may fail on a key of the wrong type comes before the writes that count.
  local waiting = {}
  if names ~= '' then
    room = room or EVENTS_MAX - go('HLEN', hour)
    for name in string.gmatch(names, '[^\n]+') do waiting[name] = go('HGET', base .. 'O', name) or '' end
  end
  -- Ids seen of late, for as long as a send may be repeated.
  if not trimmed then go('ZREMRANGEBYSCORE', base .. 'x', '-inf', now - 120000) end
  trimmed = true
  if go('ZADD', base .. 'x', 'NX', now, id) == 0 then return end
  local at = go('XADD', base .. 'e', 'MAXLEN', '~', EVENTS_MAX, '*', 'P', id .. body)
  for name, ids in pairs(waiting) do
    -- Who waits already is never told in vain; to be found later there has to be room.
    if room > 0 or ids ~= '' or call('HEXISTS', hour, name) == 1 then room = room - call('HSET', hour, name, at) end
    for x = 1, #ids, 14 do
      woken = woken + go('ZADD', base .. 'P', 'XX', 'CH', now, 'p' .. sub(ids, x, x + 13))
    end
  end
  if names ~= '' and not kept then
    call('PEXPIRE', hour, NAMED_HOURS * 3600000, 'NX')
    kept = true
  end
end
