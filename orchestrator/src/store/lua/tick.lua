#!lua flags=allow-oom
-- TICK: does what is due. Any process may call it at any time: moving and removing are one, so nothing fires twice.
-- Timers are one letter ‖ id. In z: d to start. In P: p the wait is over (an approval expires, a sleep ends). In y: m
-- remind · e escalate · s the service-level clock warns · v it is violated · x no attempt may begin any more.
-- Drops the events that are too old, at most one bucket of finished tasks a call, and forgets up to 8 slices that have emptied.
-- KEYS[1] {ns.p}:e      keys built inside: z P y t<slice> T r:<q> q k:<q> B D<n> C C<n> X A H a:<id><n> j:<id> audit U u:<type>
--                       W w:<worker> i:<worker> n i:<inbox> v<hour> O l Q Z N S:<name>
-- ARGV: 1 most timers of each kind to fire (1..100) · 2 letter ‖ ending of a task whose approval expired
--       3 letter ‖ ending of one that is cancelled because its clock ran out
-- Reply: {timers fired, ms until the next or -1, number of schedules that are due, for FIRE}; call again while the first is that
--         many.
local event, fired = {}, 0

local function add(letter, elements) event[letter] = (event[letter] or '') .. elements end

-- The wait for an event is over when it was told, or when its time is; else somebody has only looked.
local function event_or_end(id, record)
  local name, entry = unwait(id)
  if #entry >= 35 then
    local due, ms, seq = unpack_bytes('>I6I6I6', entry, 17)
    local at_ms, at_seq, told = find_event(sub(entry, 35), ms, seq)
    if told then
      go('HSET', base .. 'j:' .. id, name, 'E' .. sub(entry, 2, 16) .. pack('>I6I6', at_ms, at_seq) .. told)
      call('HINCRBY', base .. 'j:' .. id, '\0b', #told)
    elseif now < due then
      go('HSET', base .. 'O', sub(entry, 35), (go('HGET', base .. 'O', sub(entry, 35)) or '') .. id)
      go('ZADD', base .. 'P', format('%.0f', due), 'p' .. id)
      return
    end
  end
  go_on(id, record, 0, event)
end

local function wait_is_over(id, record)
  if bit.band(flags_of(record), ON_APPROVAL) ~= 0 then
    decided(id, record, asked(id, record), 'timeout', '', 'nobody decided in time', '', ARGV[2], event)
  elseif bit.band(flags_of(record), ON_EVENT) ~= 0 then
    event_or_end(id, record)
  elseif bit.band(flags_of(record), ON_TIMER) ~= 0 then
    go_on(id, record, 0, event)
  end
end

local function remind(id, record, at)
  local n = asked(id, record)
  local every = tonumber(go('HGET', approval_key(id, n), 'rem')) or 0
  if every > 0 then go('ZADD', base .. 'y', now + every, 'm' .. id) end
  add('A', id .. pack('>I2', n) .. 'm')
end

-- Adds somebody to those who may decide.
local function add_approver(id, n, whom)
  local key = approval_key(id, n)
  local by = go('HGET', key, 'by') or ''
  -- An empty list lets everybody decide: naming one more must not narrow it.
  if by ~= '' and whom ~= '' then go('HSET', key, 'by', by .. ' ' .. whom) end
  add('A', id .. pack('>I2', n) .. 'e')
  audit('escalated', id, n, whom, '', go('HGET', key, 'hash') or '')
end

local function warn_or_violate(id, record, letter)
  local state = go('HGET', base .. 'C', id)
  if not whole(state) then return end
  local bits, action = byte(state, 1, 2)
  bits = bit.bor(bits, letter == 's' and 2 or 4)
  go('HSET', base .. 'C', id, char(bits) .. sub(state, 2))
  add('V', id .. (letter == 's' and 'w' or 'v'))
  if letter == 's' or action == 97 then return end
  if action == 99 then
    call_off(id, record, ARGV[3], event)
    return
  end
  local flags = flags_of(record)
  if action == 101 and bit.band(flags, ON_APPROVAL) ~= 0 then
    local length = byte(state, 46)
    add_approver(id, asked(id, record), sub(state, 48 + length, 47 + length + byte(state, 47 + length)))
  end
  if byte(record, 13) > 0 then
    -- Raised to P0: at the front of the queue when it is there, else as soon as it comes back to it.
    local raised = sub(record, 1, 12) .. '\0' .. sub(record, 14)
    go('HSET', base .. 't' .. sub(id, 1, 4), id, raised)
    if go('ZREM', base .. 'r:' .. queue_of(record), id) == 1 then ready(id, raised, created_at(id)) end
  end
end

-- Ends a task that waits to begin; what has begun goes on, and the timer waits for the task to wait again.
local function expire(id, record, at)
  local flags = flags_of(record)
  if bit.band(flags, EXPIRES) == 0 then return end
  local waits = bit.band(flags, SHELVED + GATED) ~= 0
  if bit.band(flags, SHELVED + GATED + ON_APPROVAL + ON_TIMER) == 0 then
    waits = go('ZSCORE', base .. 'r:' .. queue_of(record), id) or go('ZSCORE', base .. 'z', 'd' .. id)
  end
  if waits then
    call_off(id, record, EXPIRED, event, 'the task has expired')
  else
    go('ZADD', base .. 'y', format('%.0f', at + FAR), 'x' .. id)
  end
end

local function fire(key, timer, at)
  local letter, id = sub(timer, 1, 1), sub(timer, 2)
  -- One that an earlier one of this call has removed is not there any more.
  if go('ZREM', key, timer) == 1 then
    local record = #id == 14 and records({id})[1]
    if record and not sound(id, record) then
      quarantine(id, record)
    elseif not record or not string.find('dpmesvx', letter, 1, true) then
      go('LPUSH', base .. 'Q', 'timer ' .. timer)
      go('LTRIM', base .. 'Q', 0, 999)
    elseif letter == 'd' then
      record = raise(record, 0, 1, 0, 0)
      store(id, record)
      ready(id, record, at)
      add('p', element(id, record))
    elseif letter == 'p' then
      wait_is_over(id, record)
    elseif letter == 's' or letter == 'v' then
      warn_or_violate(id, record, letter)
    elseif letter == 'x' then
      expire(id, record, at)
    elseif bit.band(flags_of(record), ON_APPROVAL) ~= 0 then
      if letter == 'm' then
        remind(id, record, at)
      else
        local n = asked(id, record)
        add_approver(id, n, go('HGET', approval_key(id, n), 'esc') or '')
      end
    end
  end
end
for _, name in ipairs({'z', 'P', 'y'}) do
  local due = go('ZRANGEBYSCORE', base .. name, '-inf', now, 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[1]))
  for i = 1, #due, 2 do fire(base .. name, due[i], tonumber(due[i + 1])) end
  fired = fired + #due / 2
end
announce_all(event)

-- By the clock that made their ids: the server's, also where tests move `now`.
go('XTRIM', base .. 'e', 'MINID', string.format('%.0f', call('TIME')[1] * 1000 - {{events_age_ms}}))
local first = go('XRANGE', base .. 'e', '-', '+', 'COUNT', 1)[1]
if first then
  -- Names of events that are not kept any more.
  local hour = math.floor(string.match(first[1], '^%d+') / 3600000)
  redis.call('UNLINK', base .. 'v' .. hour - 1, base .. 'v' .. hour - 2)
end
local old = go('ZRANGEBYSCORE', base .. 'B', '-inf', now, 'LIMIT', 0, 1)
if old[1] then
  go('ZREM', base .. 'B', old[1])
  redis.call('UNLINK', base .. 'D' .. old[1], base .. 'C' .. old[1])
  -- What is no number was not written by us, and there are no dead letters in it.
  local n = tonumber(old[1])
  if n then go('ZREMRANGEBYSCORE', base .. 'X', '-inf', '(' .. string.format('%.0f', (n + 1) * BUCKET - DEAD_SHIFT)) end
end
for _, slice in ipairs(go('ZRANGE', base .. 'T', 0, 7)) do
  if redis.call('EXISTS', base .. 't' .. slice) == 0 then go('ZREM', base .. 'T', slice) end
end
return {fired, next_due(), go('ZCOUNT', base .. 'Z', '-inf', now)}
