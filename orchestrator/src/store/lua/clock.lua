-- The service-level clock of one task: how long it waited for a machine (q), ran (m) and waited for a person (h), and
-- when its warning and its violation are due. In front of the scripts that turn clocks; in STEP only where one is needed.
-- state = bits u8 (1 stands while a person has it, 2 warned, 4 violated, 8 told at risk) · action u8 · phase u8 · since u48
--         · due u48 (0 = none; moves with every pause) · limit u48 (0 = none; never moves) · lead u48 (warning before the
--         violation) · queue, machine, human u48 (ms spent) · length u8 · task type · length u8 · whom to escalate to
--         · hours that count: any number of (from u32, to u32), minutes; none = all. Behind the last one all time counts.
-- Keys built inside: C C<n> R<n> y
local CLOCK = '>BBBI6I6I6I6I6I6I6'

-- Whether a state is whole: what somebody else has written there must stop nothing.
local function whole(state)
  local length = state and #state > 46 and byte(state, 46)
  local whom = length and byte(state, 47 + length)
  return whom and #state >= 47 + length + whom and (#state - 47 - length - whom) % 8 == 0
end

-- The hours of a state.
local function hours_of(state)
  local length = byte(state, 46)
  return sub(state, 48 + length + byte(state, 47 + length))
end

-- Milliseconds between two instants that count.
local function counted(hours, from, to)
  local sum, last = 0, 0
  for i = 1, #hours, 8 do
    local a, b = unpack_bytes('>I4I4', hours, i)
    last = b * 60000
    sum = sum + math.max(0, math.min(last, to) - math.max(a * 60000, from))
  end
  return sum + math.max(0, to - math.max(from, last))
end

-- The instant when so many milliseconds that count have passed.
local function after(hours, from, ms)
  local last = 0
  for i = 1, #hours, 8 do
    local a, b = unpack_bytes('>I4I4', hours, i)
    last = b * 60000
    local begin = math.max(a * 60000, from)
    if begin + ms <= last then return begin + ms end
    ms = ms - math.max(0, last - begin)
  end
  return math.max(from, last) + ms
end

-- Sets the timers of a clock that has been written; `first` when it has none yet.
local function arm(id, state, first)
  local bits, _, phase, _, due, limit, lead = unpack_bytes(CLOCK, state)
  local y, at, hours = base .. 'y', limit, hours_of(state)
  if not (phase == 104 and bits % 2 == 1) and due > 0 and (limit == 0 or due < limit) then at = due end
  for letter, bit_value in pairs({s = 2, v = 4}) do
    if bit.band(bits, bit_value) == 0 and at > 0 then
      local warn = after(hours, now, math.max(0, counted(hours, now, at) - lead))
      local at_old = not first and go('ZSCORE', y, letter .. id)
      if not at_old or tonumber(at_old) > now then
        go('ZADD', y, format('%.0f', letter == 's' and math.min(warn, at) or at), letter .. id)
      end
    elseif not first then
      -- One that is due already came before the pause: it is still to be told.
      local at_old = go('ZSCORE', y, letter .. id)
      if at_old and tonumber(at_old) > now then go('ZREM', y, letter .. id) end
    end
  end
end

-- Turns the clock of `id` to the phase q, m or h, or ends it with the letter of how the task of that priority ended.
-- Returns whether it ended late and nobody had told so.
local function turn(id, phase, priority)
  local state = go('HGET', base .. 'C', id)
  if not whole(state) then
    if state then go('HDEL', base .. 'C', id) end
    return
  end
  local bits, action, was, since, due, limit, lead, queue, machine, human = unpack_bytes(CLOCK, state)
  local spent, paused = math.max(0, now - since), was == 104 and bits % 2 == 1
  if was == 113 then queue = queue + spent elseif was == 109 then machine = machine + spent else human = human + spent end
  local hours = hours_of(state)
  if paused and due > 0 then due = after(hours, now, counted(hours, since, due)) end
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
    if paused ~= (phase == 'h' and bits % 2 == 1) then arm(id, state) end
    return
  end
  go('HDEL', base .. 'C', id)
  redis.pcall('HSET', base .. 'C' .. math.floor((phase == 'f' and now + DEAD_SHIFT or now) / BUCKET), id, state)
  if phase ~= 'x' or bit.band(bits, 4) ~= 0 then
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
