-- For scripts that move single tasks: reading, splicing, ending and readying them.
-- Keys built inside: r:<q> t<slice> T q k:<q> z D<n> B X n i:<inbox> s

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

-- An event's element: id, epoch and number of changes.
local function element(id, record) return id .. sub(record, 2, 9) end

local function store(id, record)
  go('HSET', base .. 't' .. sub(id, 1, 4), id, record)
  go('ZADD', base .. 'T', 0, sub(id, 1, 4))
end

local function token(queue) go('ZADD', base .. 'k:' .. queue, 0, 'x') end

-- Makes a stored task runnable, as if it had come at `at` (milliseconds).
local function ready(id, record, at)
  local queue = queue_of(record)
  go('ZADD', base .. 'r:' .. queue, byte(record, 13) * CLASS + at, id)
  go('SADD', base .. 'q', queue)
  token(queue)
end

-- The key of the bucket for what is to be kept from `at` on; makes it known when it is new. The first field is longer
-- than a listpack allows: from the start the bucket is a real hashtable, whose writes cost the same at any size.
local function bucket(at)
  local n = math.floor(at / BUCKET)
  local key = base .. 'D' .. n
  if go('HLEN', key) == 0 then
    go('HSET', key, '', string.rep('.', 65))
    go('ZADD', base .. 'B', (n + 1) * BUCKET + RETENTION, n)
  end
  return key
end

local DEAD_SHIFT = math.max(0, DEAD_RETENTION - RETENTION)

-- Files a dead letter: its value goes to the last bucket that covers its retention, its id to X.
local function bury(id, value)
  go('HSET', bucket(now + DEAD_SHIFT), id, value)
  go('ZADD', base .. 'X', now, id)
  if go('ZCARD', base .. 'X') > DEAD_MAX then
    local oldest = go('ZPOPMIN', base .. 'X')
    go('HDEL', base .. 'D' .. math.floor((oldest[2] + DEAD_SHIFT) / BUCKET), oldest[1])
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

-- Ends a task whose record says so already: `record` holds the raised counters, `tail` the letter and the ending.
-- The task must be in no index but the slice. Returns the element of the event `e`.
local function finish(id, record, tail)
  local value = record .. pack('>I6', now) .. tail .. pack('>I4', #record)
  if sub(tail, 1, 1) == 'f' then bury(id, value) else go('HSET', bucket(now), id, value) end
  go('HDEL', base .. 't' .. sub(id, 1, 4), id)
  if bit.band(flags_of(record), AWAITED) ~= 0 then tell(id) end
  return element(id, record) .. sub(tail, 1, 1)
end

-- Where a finished task's value lies: its key and the value, or nothing. Looks where it can be, newest first.
local function find_finished(id)
  local buried = go('ZSCORE', base .. 'X', id)
  if buried then
    local key = base .. 'D' .. math.floor((buried + DEAD_SHIFT) / BUCKET)
    local value = go('HGET', key, id)
    if value then return key, value end
  end
  local oldest = math.floor(math.max(created_at(id), now - RETENTION - BUCKET) / BUCKET)
  for n = math.floor(now / BUCKET), oldest, -1 do
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
