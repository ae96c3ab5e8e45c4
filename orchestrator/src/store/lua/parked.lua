-- For scripts that ask people, hear them, or end what waits for them: approvals and the audit; and waits for events.
-- Keys built inside: a:<id><n> A H j:<id> audit z P y v<hour> O e
-- An approval's number n is 0 for the gate at submission and counts a handler's questions from 1. `a:` holds
--   v what was asked · st status · rq, ex requested and expiring, ms · by who may decide, separated by spaces · q quorum
--   own who asked for the task · hash of what was shown · n votes so far · +<name> one vote · ~<name> whose, in small letters
--   rem ms between reminders · esc whom to add later · gd digest of the terms of a handler's gate · due when the task is to start · jn the journal's name for it · at, who, why, f the decision

-- SHA-256 (FIPS 180-4), as 64 hexadecimal digits. About 45 us for each 64 bytes: people decide seldom.
local function sha256(text)
  local band, bxor, bnot, ror, tobit = bit.band, bit.bxor, bit.bnot, bit.ror, bit.tobit
  -- The first 32 bits of the fractions of the cube roots of the first 64 primes.
  local K = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
  }
  local length = #text
  text = text .. '\128' .. string.rep('\0', (55 - length) % 64) .. pack('>I4I4', 0, length * 8)
  local H = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}
  local w = {}
  for at = 1, #text, 64 do
    for i = 1, 16 do w[i] = unpack_bytes('>I4', text, at + i * 4 - 4) end
    for i = 17, 64 do
      local x, y = w[i - 15], w[i - 2]
      w[i] = tobit(w[i - 16] + bxor(ror(x, 7), ror(x, 18), bit.rshift(x, 3)) + w[i - 7]
        + bxor(ror(y, 17), ror(y, 19), bit.rshift(y, 10)))
    end
    local a, b, c, d, e, f, g, h = unpack(H)
    for i = 1, 64 do
      local t = h + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(band(e, f), band(bnot(e), g)) + K[i] + w[i]
      local u = bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bxor(band(a, b), band(a, c), band(b, c))
      h, g, f, e, d, c, b, a = g, f, e, tobit(d + t), c, b, a, tobit(t + u)
    end
    for i, v in ipairs({a, b, c, d, e, f, g, h}) do H[i] = tobit(H[i] + v) end
  end
  local out = {}
  for i = 1, 8 do out[i] = bit.tohex(H[i]) end
  return concat(out)
end

-- Appends to the audit. Each entry carries the hash of the one before it, so that none can be changed or taken out of
-- the middle unseen. What is hashed: every value in this order, each after its length and a colon.
local function audit(op, id, n, who, note, hash)
  local key = base .. 'audit'
  local last, previous, number = go('XREVRANGE', key, '+', '-', 'COUNT', 1), '', 1
  if last[1] then
    local fields = {}
    for i = 1, #last[1][2], 2 do fields[last[1][2][i]] = last[1][2][i + 1] end
    previous, number = fields.h or '', (tonumber(fields.n) or 0) + 1
  end
  local values, hashed = {tostring(number), format('%.0f', now), op, id, tostring(n), who, note, hash}, {}
  for i, value in ipairs({previous, unpack(values)}) do hashed[i] = #value .. ':' .. value end
  go('XADD', key, 'MAXLEN', '~', AUDIT_MAX, '*', 'n', values[1], 't', values[2], 'op', op, 'id', id, 'no', values[5],
    'who', who, 'note', note, 'hash', hash, 'before', previous, 'h', sha256(concat(hashed)))
end

local function approval_key(id, n) return base .. 'a:' .. id .. pack('>I2', n) end

-- Writes a new approval; `asking` is what Rust has packed. The task's record must say already that it waits.
-- Returns the element of the event `A`.
local function ask(id, n, asking, name)
  local key, y = approval_key(id, n), base .. 'y'
  redis.call('DEL', key)
  -- A forgotten task may be sent anew: what was decided for it then must not be dropped with this one in its place.
  go('ZREM', base .. 'H', id .. pack('>I2', n))
  local expires = now + asking.ex
  call('HSET', key, 'v', asking.v, 'st', 'pending', 'rq', now, 'ex', format('%.0f', expires), 'by', asking.by, 'q', asking.q,
    'own', asking.own, 'hash', asking.hash, 'n', 0, 'due', asking.due or 0, 'jn', name or '', 'rem', asking.rem or 0,
    'esc', asking.esc or '', 'gd', asking.gd or '')
  go('ZADD', base .. 'A', now, id .. pack('>I2', n))
  go('ZADD', base .. 'P', expires, 'p' .. id)
  if (asking.rem or 0) > 0 then go('ZADD', y, now + asking.rem, 'm' .. id) end
  if (asking.after or 0) > 0 then go('ZADD', y, now + asking.after, 'e' .. id) end
  audit('requested', id, n, asking.own, '', asking.hash)
  return id .. pack('>I2', n) .. 'r'
end

-- Number of the approval that a parked task waits for.
local function asked(id, record)
  local gated = bit.band(flags_of(record), GATED) ~= 0
  if gated and bit.band(flags_of(record), JOURNAL) == 0 then return 0 end
  return tonumber(go('HGET', base .. 'j:' .. id, gated and '\0w' or '\0n')) or 0
end

-- Closes an approval for good: approved, rejected, timeout or cancelled. Returns the element of the event `A`.
local function settle(id, n, status, who, why, form)
  local key, member = approval_key(id, n), id .. pack('>I2', n)
  go('ZREM', base .. 'P', 'p' .. id)
  go('ZREM', base .. 'y', 'm' .. id)
  go('ZREM', base .. 'y', 'e' .. id)
  go('ZREM', base .. 'A', member)
  go('HSET', key, 'st', status, 'at', now, 'who', who, 'why', why, 'f', form)
  call('PEXPIRE', key, HISTORY_TTL)
  go('ZADD', base .. 'H', now, member)
  go('ZREMRANGEBYSCORE', base .. 'H', '-inf', now - HISTORY_TTL)
  local excess = go('ZCARD', base .. 'H') - HISTORY_MAX
  if excess > 0 then
    local oldest = go('ZPOPMIN', base .. 'H', math.min(excess, 100))
    for i = 1, #oldest, 2 do redis.call('DEL', base .. 'a:' .. oldest[i]) end
  end
  audit(status, id, n, who, why, go('HGET', key, 'hash') or '')
  return member .. ({approved = 'a', rejected = 'j', timeout = 't', cancelled = 'c'})[status]
end

-- A wait for an event. Its entry in the journal: 16 bytes of every entry · the wait's end u48 · the place behind which the
-- event counts, u48 u48 · its name, `type key`. When it was found: the 16 bytes with the kind E · place u48 u48 · event.
-- `O` holds, by name, the ids of the tasks that wait; the journal's field \0e, which of its entries that is.

-- The newest event of a name behind a place, as far as it is known by name: ms, seq, id ‖ MessagePack.
local function find_event(name, ms, seq)
  local hour = math.floor(call('TIME')[1] / 3600)
  for n = hour, math.max(hour - 25, math.floor(ms / 3600000)), -1 do
    local at = go('HGET', base .. 'v' .. n, name)
    if at then
      local a, b = string.match(at, '^(%d+)-(%d+)$')
      a, b = tonumber(a), tonumber(b)
      if not a or a < ms or a == ms and b <= seq then return end
      local found = go('XRANGE', base .. 'e', at, at)[1]
      if found and found[2][1] == 'P' then return a, b, found[2][2] end
      return
    end
  end
end

-- Begins a wait: the journal's entry, and whether it is over already. An event counts from the task's creation on, or behind
-- the last of its name that the task has found.
local function await(id, call_name, entry, name, behind)
  local ms, seq = string.match(behind, '^(%d+) (%d+)$')
  if not ms then
    -- By the clock that gives the stream its ids. Whoever made the task's id knows that clock to a few milliseconds.
    local time = call('TIME')
    ms, seq = math.max(0, math.floor(time[1] * 1000 + time[2] / 1000) - math.max(0, now - created_at(id)) - 50), 0
  end
  ms, seq = tonumber(ms), tonumber(seq)
  local waiting = go('HGET', base .. 'O', name) or ''
  go('HSET', base .. 'O', name, waiting .. id)
  call('HSET', base .. 'j:' .. id, '\0e', call_name)
  return entry .. pack('>I6I6', ms, seq) .. name, find_event(name, ms, seq) ~= nil
end

-- A task waits for its event no more. Returns the name of the call, and its entry.
local function unwait(id)
  local journal = base .. 'j:' .. id
  local call_name = go('HGET', journal, '\0e') or ''
  local entry = call('HGET', journal, call_name) or ''
  local name = sub(entry, 35)
  local left = go('HGET', base .. 'O', name) or ''
  local at = string.find(left, id, 1, true)
  -- Ids lie side by side: elsewhere the same bytes mean nothing.
  while at and at % 14 ~= 1 do at = string.find(left, id, at + 1, true) end
  if at then left = sub(left, 1, at - 1) .. sub(left, at + 14) end
  if left == '' then call('HDEL', base .. 'O', name) else call('HSET', base .. 'O', name, left) end
  return call_name, entry
end

-- Lets a parked task go on: into its queue, or to the timer when it is to start later.
-- Adds its element to the fields of the event.
local function go_on(id, record, due, event)
  local flags = flags_of(record)
  local gated = bit.band(flags, GATED) ~= 0
  flags = bit.band(flags, 65535 - ON_APPROVAL - ON_TIMER - ON_EVENT - GATED)
  record = with_flags(raise(record, 0, 1, 0, 0), gated and bit.bor(flags, PASSED) or flags)
  give_back(id, record, 'q')
  -- What its handler has begun goes on, whenever the wait is over.
  if not gated then may_expire(id, record, false) end
  if due > now then
    go('ZADD', base .. 'z', format('%.0f', due), 'd' .. id)
    token(queue_of(record))
    event.k = (event.k or '') .. element(id, record)
  else
    ready(id, record, created_at(id))
    local letter = gated and 'p' or 'r'
    event[letter] = (event[letter] or '') .. element(id, record)
  end
end

-- What a decision means for the task: it goes on, or it ends with `tail`. A handler reads the decision in its journal.
local function decided(id, record, n, status, who, why, form, tail, event)
  local due = tonumber(go('HGET', approval_key(id, n), 'due')) or 0
  local name = go('HGET', approval_key(id, n), 'jn') or ''
  local gated = bit.band(flags_of(record), GATED) ~= 0
  event.A = (event.A or '') .. settle(id, n, status, who, why, form)
  if gated and status ~= 'approved' then
    local ended, late = finish(id, raise(with_flags(record, bit.band(flags_of(record), 65535 - ON_APPROVAL)), 1, 1, 0, 0), tail)
    event.e, event.V = (event.e or '') .. ended, (event.V or '') .. late
    return
  end
  if not gated then
    local journal = base .. 'j:' .. id
    local entry = go('HGET', journal, name) or ''
    if #entry >= 43 then
      go('HSET', journal, name, sub(entry, 1, 10) .. sub(status, 1, 1) .. sub(entry, 12, 43) .. cmsgpack.pack({w = who, y = why, f = form}))
    end
  end
  go_on(id, record, due, event)
end

-- The fields of an event entry from what was collected by letter.
local function announce_all(event)
  local fields = {}
  -- A task that went on and then ended in the same call is told of in this order.
  for _, letter in ipairs({'p', 'k', 'r', 'e', 'A', 'V'}) do
    fields[#fields + 1] = letter
    fields[#fields + 1] = event[letter] or ''
  end
  announce(fields)
end

-- Ends a task that nobody runs, or asks the worker of a running one to stop; `why` is for the approval that it waits for, the
-- score of the note, `urgency`, tells within what time. Returns 'cancelled' or 'requested'.
local function call_off(id, record, tail, event, why, urgency)
  local flags = flags_of(record)
  local waiting = go('ZREM', base .. 'r:' .. queue_of(record), id) + go('ZREM', base .. 'z', 'd' .. id)
  if bit.band(flags, SHELVED) ~= 0 then
    record = with_flags(record, bit.band(flags, 65535 - SHELVED))
    for _, task_type in ipairs(go('SMEMBERS', base .. 'U')) do
      waiting = waiting + go('ZREM', base .. 'u:' .. task_type, id)
      if go('ZCARD', base .. 'u:' .. task_type) == 0 then go('SREM', base .. 'U', task_type) end
    end
  end
  if bit.band(flags, ON_APPROVAL) ~= 0 then
    event.A = (event.A or '') .. settle(id, asked(id, record), 'cancelled', '', why or 'the task was cancelled', '')
    waiting = 1
  elseif bit.band(flags, ON_TIMER) ~= 0 then
    go('ZREM', base .. 'P', 'p' .. id)
    if bit.band(flags, ON_EVENT) ~= 0 then unwait(id) end
    waiting = 1
  end
  if waiting == 0 then
    local member = id .. sub(record, 2, 5)
    local workers = go('ZRANGE', base .. 'W', 0, 999)
    -- Whoever is known to have it comes first: there may be more than a thousand leases.
    table.insert(workers, 1, string.match(go('HGET', base .. 's', id) or '', '^%d+ (.+)$') or '')
    for _, worker in ipairs(workers) do
      if go('SISMEMBER', base .. 'w:' .. worker, member) == 1 then
        go('HSET', base .. 't' .. sub(id, 1, 4), id, with_flags(record, bit.bor(flags_of(record), CANCEL)))
        -- Of two notes that lie there at once the more urgent one counts.
        go('ZADD', base .. 'i:' .. worker, 'LT', urgency or 0, 'c' .. id)
        go('EXPIRE', base .. 'i:' .. worker, 3600)
        return 'requested'
      end
    end
  end
  -- Waiting, or in no index at all because somebody else deleted one: either way nobody runs it.
  -- A task that had not passed its gate keeps the flag: it must not be brought back to life past it.
  record = with_flags(record, bit.band(flags_of(record), 65535 - ON_APPROVAL - ON_TIMER - ON_EVENT))
  local ended, late = finish(id, raise(record, 1, 1, 0, 0), tail)
  event.e, event.V = (event.e or '') .. ended, (event.V or '') .. late
  return 'cancelled'
end
