-- The service-level clock of one task: how long it waited for a machine (q), ran (m) and waited for a person (h), and
-- when its warning and its violation are due. In front of the scripts that turn clocks; in STEP only where one is needed.
-- state = bits u8 (1 stands while a person has it, 2 warned, 4 violated, 8 told at risk) · action u8 · phase u8 · since u48
--         · due u48 (0 = none; moves with every pause) · limit u48 (0 = none; never moves) · lead u48 (warning before the
--         violation) · queue, machine, human u48 (ms spent) · length u8 · task type · whom to escalate to
-- Keys built inside: C C<n> R<n> y
local CLOCK = '>BBBI6I6I6I6I6I6I6'

-- Sets the timers of a clock that has been written; `first` when it has none yet.
local function arm(id, bits, phase, due, limit, lead, first)
  local y, at = base .. 'y', limit
  if not (phase == 'h' and bits % 2 == 1) and due > 0 and (limit == 0 or due < limit) then at = due end
  for letter, bit_value in pairs({s = 2, v = 4}) do
    if bit.band(bits, bit_value) == 0 and at > 0 then
      go('ZADD', y, letter == 's' and at - lead or at, letter .. id)
    elseif not first then
      go('ZREM', y, letter .. id)
    end
  end
end

-- Turns the clock of `id` to the phase q, m or h, or ends it with the letter of how the task of that priority ended.
-- Returns whether it ended late and nobody had told so.
local function turn(id, phase, priority)
  local state = go('HGET', base .. 'C', id)
  if not state or #state < 46 then return end
  local bits, action, was, since, due, limit, lead, queue, machine, human = unpack_bytes(CLOCK, state)
  local spent, paused = math.max(0, now - since), was == 104 and bits % 2 == 1
  if was == 113 then queue = queue + spent elseif was == 109 then machine = machine + spent else human = human + spent end
  if paused and due > 0 then due = due + spent end
  local late = false
  if priority then
    local told = go('ZREM', base .. 'y', 'v' .. id)
    go('ZREM', base .. 'y', 's' .. id)
    local at = (due > 0 and (limit == 0 or due < limit)) and due or limit
    late = phase ~= 'x' and told == 1 and at > 0 and now > at
    if late then bits = bit.bor(bits, 4) end
  end
  state = pack(CLOCK, bits, action, byte(phase), now, due, limit, lead, queue, machine, human) .. sub(state, 46)
  if not priority then
    go('HSET', base .. 'C', id, state)
    if paused ~= (phase == 'h' and bits % 2 == 1) then arm(id, bits, phase, due, limit, lead) end
    return
  end
  go('HDEL', base .. 'C', id)
  redis.pcall('HSET', base .. 'C' .. math.floor((phase == 'f' and now + DEAD_SHIFT or now) / BUCKET), id, state)
  if phase ~= 'x' then
    -- Counts for the reports: how many, how many late, and how long, in four steps an octave.
    local hour = base .. 'R' .. math.floor(now / 3600000)
    local row = sub(state, 47, 46 + byte(state, 46)) .. ' P' .. priority .. ' '
    redis.pcall('HINCRBY', hour, row .. 'n', 1)
    if bit.band(bits, 4) ~= 0 then redis.pcall('HINCRBY', hour, row .. 'l', 1) end
    for letter, ms in pairs({q = queue, m = machine, h = human}) do
      redis.pcall('HINCRBY', hour, row .. letter .. math.floor(math.log(ms + 1) / math.log(2) * 4), 1)
    end
    redis.pcall('EXPIRE', hour, 32 * 86400)
  end
  return late
end
