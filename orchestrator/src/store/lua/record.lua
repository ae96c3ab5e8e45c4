-- For all scripts but the two that every task goes through: healing, reading, splicing, ending and readying.
-- Those two, enqueue and step, do without, because making these functions costs them more than their work.
-- Keys built inside: r:<q> t<slice> T q k:<q> z P y Z N S:<name> D<n> C C<n> R<n> B X n i:<inbox> s j:<id> p:<id> l Q bad:<key>

-- Sets a key aside, as bad:<key>, and notes it in Q.
local function set_aside(key)
  call('RENAME', key, base .. 'bad:' .. sub(key, #base + 1))
  redis.pcall('LPUSH', base .. 'Q', 'key ' .. sub(key, #base + 1))
  redis.pcall('LTRIM', base .. 'Q', 0, 999)
  -- Who had a lease is known from the generations: else nobody would look after what the dead among them hold.
  if key == base .. 'W' then
    local fields = redis.pcall('HKEYS', base .. 'g')
    for _, field in ipairs(fields.err and {} or fields) do
      if sub(field, 1, 1) == 'w' then call('ZADD', key, now, sub(field, 2)) end
    end
  end
end

-- Runs a command. A key of the wrong type is set aside and the command runs on a clean one: so no poke from outside can
-- stop a script between two of its writes.
local function go(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then
    if not string.find(reply.err, 'WRONGTYPE', 1, true) then error(reply) end
    set_aside(key)
    return call(command, key, ...)
  end
  return reply
end

--{{clock}}
--{{lock}}

-- Runs fn(slice's key, i, j) for each run ids[i..j] of one slice.
local function by_slice(ids, fn)
  local i, n = 1, #ids
  while i <= n do
    local slice, j = sub(ids[i], 1, 4), i
    while j < n and sub(ids[j + 1], 1, 4) == slice do j = j + 1 end
    fn(base .. 't' .. slice, i, j)
    i = j + 1
  end
end

-- The records of ids, false where there is none.
local function records(ids)
  local found = {}
  by_slice(ids, function(key, i, j)
    local part = go('HMGET', key, unpack(ids, i, j))
    for x = i, j do found[x] = part[x - i + 1] end
  end)
  return found
end

-- One packed entry; fields are name, value, name, value ... What has no elements is left out; `w` is none of them.
local function announce(all)
  local fields, told = {}, false
  for i = 1, #all, 2 do
    if #all[i + 1] > 0 then
      fields[#fields + 1] = all[i]
      fields[#fields + 1] = all[i + 1]
      told = told or all[i] ~= 'w'
    end
  end
  if told then go('XADD', base .. 'e', 'MAXLEN', '~', EVENTS_MAX, '*', unpack(fields)) end
end

-- Whether a record can be worked with at all.
local function sound(id, record)
  return record and #id == 14 and byte(record) == 1 and #record > 16 and #record > 16 + byte(record, 16)
end

-- Milliseconds until the next timer or bucket is due; -1 = nothing is.
local function next_due()
  local due
  for _, key in ipairs({'z', 'P', 'y', 'Z', 'B'}) do
    local head = go('ZRANGE', base .. key, 0, 0, 'WITHSCORES')
    if head[2] and tonumber(head[2]) < (due or FAR) then due = tonumber(head[2]) end
  end
  return due and math.max(0, due - now) or -1
end

local function queue_of(record) return sub(record, 17, 16 + byte(record, 16)) end
local function flags_of(record) return byte(record, 14) * 256 + byte(record, 15) end
local function created_at(id) return (unpack_bytes('>I6', id)) end

local function with_flags(record, flags)
  return sub(record, 1, 13) .. pack('>I2', flags) .. sub(record, 16)
end

-- The record with its counters raised.
local function raise(record, epochs, changes, attempts, crashes)
  local e, c, a, k = unpack_bytes('>I4I4BB', record, 2)
  return sub(record, 1, 1) .. pack('>I4I4BB', e + epochs, c + changes, math.min(a + attempts, 255), math.min(k + crashes, 255))
    .. sub(record, 12)
end

-- An event's element: id, epoch and number of changes. Nothing for a task that tells none.
local function element(id, record)
  if bit.band(flags_of(record), QUIET) ~= 0 then return '' end
  return id .. sub(record, 2, 9)
end

local function store(id, record)
  go('HSET', base .. 't' .. sub(id, 1, 4), id, record)
  go('ZADD', base .. 'T', 0, sub(id, 1, 4))
end

local function token(queue) go('ZADD', base .. 'k:' .. queue, 0, 'x') end

-- The distance between two priorities without aging.
local STRICT = 4398046511104

-- The time part of the score of a task of that priority; also of one that was placed before the distance was changed.
local function time_part(score, priority)
  if score >= STRICT then return score % STRICT end
  return CLASS < STRICT and score - priority * CLASS or score
end

-- Makes a stored task runnable, as if it had come at `at` (milliseconds).
local function ready(id, record, at)
  local queue = queue_of(record)
  go('ZADD', base .. 'r:' .. queue, byte(record, 13) * CLASS + at, id)
  go('SADD', base .. 'q', queue)
  token(queue)
end

-- The key of the bucket for what is to be kept from `at` on; makes it known when it is new.
local function bucket(at)
  local n = math.floor(at / BUCKET)
  local key = base .. 'D' .. n
  if not go('ZSCORE', base .. 'B', n) then
    go('HSET', key, '', FIRST)
    go('ZADD', base .. 'B', (n + 1) * BUCKET + RETENTION, n)
  end
  return key
end

-- Files a dead letter: its value goes to the last bucket that covers its retention, its id to X.
local function bury(id, value)
  go('HSET', bucket(now + DEAD_SHIFT), id, value)
  go('ZADD', base .. 'X', now, id)
  if go('ZCARD', base .. 'X') > DEAD_MAX then
    local oldest = go('ZPOPMIN', base .. 'X')
    local n = math.floor((oldest[2] + DEAD_SHIFT) / BUCKET)
    go('HDEL', base .. 'D' .. n, oldest[1])
    redis.pcall('HDEL', base .. 'C' .. n, oldest[1])
    redis.call('DEL', base .. 'j:' .. oldest[1])
  end
end

-- Tells those who wait for the task that it has ended.
local function tell(id)
  local inboxes = go('HGET', base .. 'n', id)
  if not inboxes then return end
  for name in string.gmatch(inboxes, '%S+') do
    go('ZADD', base .. 'i:' .. name, 0, id)
    go('EXPIRE', base .. 'i:' .. name, 3600)
  end
  go('HDEL', base .. 'n', id)
end

-- The ticks of a schedule wait for the end of a task from now on. It may have been made while none was to.
local function wait_for(id, name)
  go('HSET', base .. 'N', id, name)
  local record = records({id})[1]
  if sound(id, record) and bit.band(flags_of(record), FOLLOWED) == 0 then
    go('HSET', base .. 't' .. sub(id, 1, 4), id, with_flags(record, bit.bor(flags_of(record), FOLLOWED)))
  end
end

-- A run of a schedule has ended: when one of its ticks waits for that, the schedule is due.
local function follow(id)
  local name = go('HGET', base .. 'N', id)
  if name and go('HEXISTS', base .. 'S:' .. name, 'w') == 1 then go('ZADD', base .. 'Z', 'XX', now, name) end
end

-- Stores a task that has left a worker; its clock, if it has one, runs on in `phase`.
local function give_back(id, record, phase)
  store(id, record)
  if bit.band(flags_of(record), CLOCKED) ~= 0 then turn(id, phase) end
end

-- Whether no attempt of a task is to begin any more.
local function has_expired(id, record)
  local at = bit.band(flags_of(record), EXPIRES) ~= 0 and tonumber(go('ZSCORE', base .. 'y', 'x' .. id))
  return at and at <= now
end

-- Whether a task waits to begin, and may expire, or goes on with what it has begun, and may not.
local function may_expire(id, record, may)
  local at = bit.band(flags_of(record), EXPIRES) ~= 0 and tonumber(go('ZSCORE', base .. 'y', 'x' .. id))
  if at and (at < FAR) ~= may then go('ZADD', base .. 'y', format('%.0f', may and at - FAR or at + FAR), 'x' .. id) end
end

-- Ends a task whose record says so already: `record` holds the raised counters, `tail` the letter and the ending.
-- The task must be in no index but the slice. Returns the element of the event `e`, and that of `V` when it ended late.
local function finish(id, record, tail)
  local letter, flags, late = sub(tail, 1, 1), flags_of(record), ''
  local value = record .. pack('>I6', now) .. tail .. pack('>I4', #record)
  -- Before it is buried: that may push a dead letter out, with all that is kept of it.
  if bit.band(flags, JOURNAL) ~= 0 then call('PEXPIRE', base .. 'j:' .. id, (letter == 'f' and DEAD_RETENTION or RETENTION) + 2 * BUCKET) end
  if bit.band(flags, CLOCKED) ~= 0 and turn(id, letter, byte(record, 13)) then late = id .. 'v' end
  if letter == 'f' then bury(id, value) else go('HSET', bucket(now), id, value) end
  go('HDEL', base .. 't' .. sub(id, 1, 4), id)
  if bit.band(flags, AWAITED) ~= 0 then tell(id) end
  if bit.band(flags, FOLLOWED) ~= 0 then follow(id) end
  if bit.band(flags, EXPIRES) ~= 0 then go('ZREM', base .. 'y', 'x' .. id) end
  if bit.band(flags, UNIQUE) ~= 0 then unlock(id, 'd') end
  if bit.band(flags, VOCAL) ~= 0 then call('PEXPIRE', base .. 'p:' .. id, {{output_kept_ms}}) end
  local ended = element(id, record)
  return #ended > 0 and ended .. letter or '', late
end

-- An id may be a minute ahead of the clock, and the clock may step back by as much.
local CLOCK_SLACK = 120000

-- Where a finished task's value lies: its key and the value, or nothing. Looks where it can be, newest first.
local function find_finished(id)
  local buried = go('ZSCORE', base .. 'X', id)
  if buried then
    local key = base .. 'D' .. math.floor((buried + DEAD_SHIFT) / BUCKET)
    local value = go('HGET', key, id)
    if value then return key, value end
    -- It failed while another retention held.
    for _, n in ipairs(go('ZRANGEBYSCORE', base .. 'B', buried, '+inf')) do
      value = go('HGET', base .. 'D' .. n, id)
      if value then return base .. 'D' .. n, value end
    end
  end
  local oldest = math.floor(math.max(created_at(id) - CLOCK_SLACK, now - RETENTION - BUCKET) / BUCKET)
  for n = math.floor((now + CLOCK_SLACK) / BUCKET), oldest, -1 do
    local key = base .. 'D' .. n
    local value = go('HGET', key, id)
    if value then return key, value end
  end
end

-- The letter of a finished value.
local function letter_of(value)
  local at = unpack_bytes('>I4', value, #value - 3) + 7
  return sub(value, at, at)
end

-- Sets a record that nobody can work with aside, raw, in Q (the newest 1,000 are kept).
local function quarantine(id, record)
  go('HDEL', base .. 't' .. sub(id, 1, 4), id)
  go('LPUSH', base .. 'Q', 'record ' .. id .. ' ' .. record)
  go('LTRIM', base .. 'Q', 0, 999)
end

-- The record of a task that is to be moved, if there is one. What nobody can work with is set aside instead.
local function workable(id)
  local record = records({id})[1]
  if record and not sound(id, record) then quarantine(id, record) return false end
  return record
end
