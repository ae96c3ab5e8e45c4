#!lua flags=allow-oom
-- STEP: ends n tasks that this worker holds and claims up to m others, in one round trip.
-- Guarantee: a finish counts only while the worker's generation is the present one and it holds the task at that
-- epoch; else nothing of that task is touched and the reply names it stale. What has expired is ended instead of claimed.
-- Claimed ids leave their queue for the
-- worker's set in the same instant. One STEP of a worker is in flight at a time. All reading comes before all writing,
-- and what may fail on a key of the wrong type before the writes that count.
-- KEYS[1] {ns.p}:e      keys built inside: g w:<worker> r:<q> k:<q> t<slice> D<n> B X z P y n i:<inbox> C C<n> R<n> j:<id>
--                       p:<id> x v<hour> O l Q Z N S:<name>
-- ARGV: 1 worker · 2 generation · 3 four bytes: m (u16, 0..256), number of queues (0..8), which of them's wake token
--       was taken (from 1, 0 = none), or six: k (u16) too · queues in order of preference
--       n × (id ‖ epoch, letter ‖ ending), no id twice · k × (id ‖ epoch, event's id, event, its names) told by them
-- Reply: {now, d, stale ids ‖ epochs, claimed ids ‖ epochs, record of each claimed}; error LOST. When nothing was
--         claimed, or something with a clock, or an event was waited for, d is the ms until the next timer, -1 for none; -3 when unsound things were
--         cleared away, or expired ones ended: look again.
local worker = ARGV[1]
local high, low, queues, token_of, told, few = byte(ARGV[3], 1, 6)
told = told and told * 256 + few
local want = high * 256 + low
local seat
if queues == 1 then
  seat = call('HMGET', base .. 'g', 'w' .. worker, 'p' .. ARGV[4])
else
  local asked = {'w' .. worker}
  for i = 1, queues do asked[i + 1] = 'p' .. ARGV[3 + i] end
  seat = call('HMGET', base .. 'g', unpack(asked))
end
if seat[1] ~= ARGV[2] then return redis.error_reply('LOST generation ' .. ARGV[2] .. ' of ' .. worker .. ' is over') end

-- What ends: held, at this epoch, by this worker.
local held, stale = base .. 'w:' .. worker, nil
local members, ids, tails, n = {}, {}, {}, 0
local values, dead, waiters, unsound, ended, special, clocked, late, marks = {}, nil, nil, nil, {}, nil, nil, nil, nil
local first, last = 4 + queues, #ARGV - 4 * (told or 0)
local counts = told and {}
if last < first then
  call('SCARD', held)
else
  for i = first, last, 2 do members[#members + 1] = ARGV[i] end
  local holds, asked = call('SMISMEMBER', held, unpack(members)), members
  for i = 1, #asked do
    if holds[i] == 1 then
      n = n + 1
      ids[n], tails[n] = sub(asked[i], 1, 14), ARGV[first + 2 * i - 1]
      if stale then members[n] = asked[i] end
    else
      -- Rare: from here on the members that count are kept in a list of their own.
      if not stale then
        stale, members = {}, {}
        for x = 1, n do members[x] = asked[x] end
      end
      stale[#stale + 1] = asked[i]
    end
  end
  local stamp = pack('>I6', now)
  local i = 1
  while i <= n do
    local slice, j = sub(ids[i], 1, 4), i
    while j < n and sub(ids[j + 1], 1, 4) == slice do j = j + 1 end
    local found = call('HMGET', base .. 't' .. slice, unpack(ids, i, j))
    for x = i, j do
      local id, record, tail = ids[x], found[x - i + 1], tails[x]
      if record and byte(record) == 1 and #record > 16 then
        local epoch, changes, attempts = unpack_bytes('>I4I4B', record, 2)
        if attempts == 255 then attempts = 254 end
        local tag = pack('>I4I4', epoch + 1, changes + 2)
        if counts then counts[members[x]] = true end
        local letter = sub(tail, 1, 1)
        local value = sub(record, 1, 1) .. tag .. char(attempts + 1) .. sub(record, 11) .. stamp .. tail .. pack('>I4', #record)
        if letter == 'f' then
          dead = dead or {}
          dead[#dead + 1] = id
          dead[#dead + 1] = value
        else
          values[#values + 1] = id
          values[#values + 1] = value
        end
        local more, flags = byte(record, 14, 15)
        -- The third bit of the flags' first byte: QUIET.
        if more % 8 < 4 then ended[#ended + 1] = id .. tag .. letter end
        if flags > 15 then
          special = special or {}
          special[#special + 1] = {id, flags, letter, byte(record, 13)}
        end
        -- Above QUIET: EXPIRES, UNIQUE, FOLLOWED and VOCAL.
        if more > 7 then
          marks = marks or {}
          marks[#marks + 1] = {id, more}
        end
        -- The lowest bit of the flags' first byte: AWAITED.
        if more % 2 == 1 then
          waiters = waiters or {}
          waiters[#waiters + 1] = id
        end
      else
        stale = stale or {}
        stale[#stale + 1] = members[x]
        if record then
          unsound = unsound or {}
          unsound[#unsound + 1] = id
          unsound[#unsound + 1] = record
        end
      end
    end
    i = j + 1
  end
end

-- What is claimed: the front of each queue that is not paused.
local taken, started, reply, cuts = {}, {}, {now, -2, '', ''}, nil
local room = want
for q = 1, queues do
  local key = base .. 'r:' .. ARGV[3 + q]
  if room > 0 and not seat[q + 1] and not (cuts and cuts[key]) then
    local front = call('ZRANGE', key, 0, room - 1)
    local n = #front
    if n > 0 then
      cuts = cuts or {}
      cuts[key] = n - 1
    end
    local i = 1
    while i <= n do
      local slice, j = sub(front[i], 1, 4), i
      while j < n and sub(front[j + 1], 1, 4) == slice do j = j + 1 end
      local found = call('HMGET', base .. 't' .. slice, unpack(front, i, j))
      for x = i, j do
        local id, record = front[x], found[x - i + 1]
        if record and #id == 14 and byte(record) == 1 and #record > 16 then
          taken[#taken + 1] = id .. sub(record, 2, 5)
          local more, flags = byte(record, 14, 15)
          if more % 8 < 4 then started[#started + 1] = id .. sub(record, 2, 9) end
          if flags > 31 then
            clocked = clocked or {}
            clocked[#clocked + 1] = id
          end
          if more > 7 then
            marks = marks or {}
            marks[#marks + 1] = {id, more, record}
          end
          reply[#reply + 1] = record
          room = room - 1
        else
          unsound = unsound or {}
          if record then unsound[#unsound + 1] = id unsound[#unsound + 1] = record end
        end
      end
      i = j + 1
    end
  end
end

-- Rare: among what was to be claimed are tasks of which no attempt may begin any more.
local lapsed, told_lapsed = nil, {}
if marks then
  call('HLEN', base .. 'l')
  call('ZCARD', base .. 'y')
  for _, mark in ipairs(marks) do
    local id, more, record = unpack(mark)
    local at = record and more % 16 > 7 and tonumber(call('ZSCORE', base .. 'y', 'x' .. id))
    if at and at <= now then
      lapsed = lapsed or {}
      lapsed[id], mark[3] = true, nil
      local epoch, changes = unpack_bytes('>I4I4', record, 2)
      local tag, flags = pack('>I4I4', epoch + 1, changes + 1), byte(record, 15)
      dead = dead or {}
      dead[#dead + 1] = id
      dead[#dead + 1] = sub(record, 1, 1) .. tag .. sub(record, 10) .. pack('>I6', now) .. EXPIRED .. pack('>I4', #record)
      if more % 8 < 4 then told_lapsed[#told_lapsed + 1] = id .. tag .. 'f' end
      if flags > 15 then
        special = special or {}
        special[#special + 1] = {id, flags, 'f', byte(record, 13)}
      end
      if more % 2 == 1 then
        waiters = waiters or {}
        waiters[#waiters + 1] = id
      end
    end
  end
end
if lapsed then
  local all, told_all, records, clocks = taken, started, reply, clocked
  taken, started, reply, clocked = {}, {}, {now, -2, '', ''}, nil
  for i, member in ipairs(all) do
    if not lapsed[sub(member, 1, 14)] then
      taken[#taken + 1] = member
      reply[#reply + 1] = records[4 + i]
    end
  end
  for _, element in ipairs(told_all) do
    if not lapsed[sub(element, 1, 14)] then started[#started + 1] = element end
  end
  for _, id in ipairs(clocks or {}) do
    if not lapsed[id] then
      clocked = clocked or {}
      clocked[#clocked + 1] = id
    end
  end
end

-- Rare: tasks with a journal or a service-level clock.
if special or clocked then
  --{{clock}}
  call('HLEN', base .. 'C')
  call('ZCARD', base .. 'y')
  for _, id in ipairs(clocked or {}) do turn(id, 'm') end
  for _, item in ipairs(special or {}) do
    local id, flags, letter, priority = unpack(item)
    if bit.band(flags, JOURNAL) ~= 0 then call('PEXPIRE', base .. 'j:' .. id, (letter == 'f' and DEAD_RETENTION or RETENTION) + 2 * BUCKET) end
    if bit.band(flags, CLOCKED) ~= 0 and turn(id, letter, priority) then late = (late or '') .. id .. 'v' end
  end
end
if #values > 0 then
  local at = math.floor(now / BUCKET)
  -- One more field than values: the bucket is new.
  if call('HSET', base .. 'D' .. at, '', FIRST, unpack(values)) > #values / 2 then
    call('ZADD', base .. 'B', (at + 1) * BUCKET + RETENTION, at)
  end
end
if dead then
  local at = math.floor((now + DEAD_SHIFT) / BUCKET)
  call('HSET', base .. 'D' .. at, unpack(dead))
  call('ZADD', base .. 'B', (at + 1) * BUCKET + RETENTION, at)
  for i = 1, #dead, 2 do call('ZADD', base .. 'X', now, dead[i]) end
  local excess = call('ZCARD', base .. 'X') - DEAD_MAX
  if excess > 0 then
    local oldest = call('ZPOPMIN', base .. 'X', excess)
    for i = 1, #oldest, 2 do
      local n = math.floor((oldest[i + 1] + DEAD_SHIFT) / BUCKET)
      call('HDEL', base .. 'D' .. n, oldest[i])
      redis.pcall('HDEL', base .. 'C' .. n, oldest[i])
      call('DEL', base .. 'j:' .. oldest[i])
    end
  end
end
if (#taken > 0 and room == 0 or lapsed) and token_of > 0 then call('ZADD', base .. 'k:' .. ARGV[3 + token_of], 0, 'x') end
-- Rare: what handlers told before their tasks ended.
local wakes = 0
if told then
  --{{tell}}
  call('ZCARD', base .. 'P')
  for i = last + 1, #ARGV, 4 do
    if counts[ARGV[i]] then tell_event(ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) end
  end
  wakes = woken
end
if #told_lapsed > 0 then call('XADD', base .. 'e', 'MAXLEN', '~', EVENTS_MAX, '*', 'e', concat(told_lapsed)) end
if late then
  if #ended > 0 then
    call('XADD', base .. 'e', 'MAXLEN', '~', EVENTS_MAX, '*', 'e', concat(ended), 'V', late, 'w', worker)
  else
    call('XADD', base .. 'e', 'MAXLEN', '~', EVENTS_MAX, '*', 'V', late, 'w', worker)
  end
  ended = {}
end
if #ended > 0 or #started > 0 then
  local event = base .. 'e'
  if #ended == 0 then
    call('XADD', event, 'MAXLEN', '~', EVENTS_MAX, '*', 's', concat(started), 'w', worker)
  elseif #started == 0 then
    call('XADD', event, 'MAXLEN', '~', EVENTS_MAX, '*', 'e', concat(ended), 'w', worker)
  else
    call('XADD', event, 'MAXLEN', '~', EVENTS_MAX, '*', 'e', concat(ended), 's', concat(started), 'w', worker)
  end
end
if marks then
  --{{lock}}
  for _, mark in ipairs(marks) do
    local id, more, record = unpack(mark)
    if not record and more % 16 > 7 then call('ZREM', base .. 'y', 'x' .. id) end
    if more % 32 > 15 then unlock(id, record and 's' or 'd') end
    if not record and more % 128 > 63 then call('PEXPIRE', base .. 'p:' .. id, {{output_kept_ms}}) end
    -- A run of a schedule has ended: when one of its ticks waits for that, the schedule is due.
    local name = not record and more % 64 > 31 and redis.pcall('HGET', base .. 'N', id)
    if type(name) == 'string' and redis.pcall('HEXISTS', base .. 'S:' .. name, 'w') == 1 then
      redis.pcall('ZADD', base .. 'Z', 'XX', now, name)
      wakes = wakes + 1
    end
  end
  for id in pairs(lapsed or {}) do call('HDEL', base .. 't' .. sub(id, 1, 4), id) end
end
if #members > 0 then call('SREM', held, unpack(members)) end
do
  local i = 1
  while i <= n do
    local slice, j = sub(ids[i], 1, 4), i
    while j < n and sub(ids[j + 1], 1, 4) == slice do j = j + 1 end
    call('HDEL', base .. 't' .. slice, unpack(ids, i, j))
    i = j + 1
  end
end
for i = 1, waiters and #waiters or 0 do
  local inboxes = redis.pcall('HGET', base .. 'n', waiters[i])
  for name in string.gmatch(type(inboxes) == 'string' and inboxes or '', '%S+') do
    redis.pcall('ZADD', base .. 'i:' .. name, 0, waiters[i])
    call('EXPIRE', base .. 'i:' .. name, 3600)
  end
  redis.pcall('HDEL', base .. 'n', waiters[i])
end

if #taken > 0 then call('SADD', held, unpack(taken)) end
for key, last in pairs(cuts or {}) do call('ZREMRANGEBYRANK', key, 0, last) end
for i = 1, unsound and #unsound or 0, 2 do
  call('HDEL', base .. 't' .. sub(unsound[i], 1, 4), unsound[i])
  redis.pcall('LPUSH', base .. 'Q', 'record ' .. unsound[i] .. ' ' .. unsound[i + 1])
  redis.pcall('LTRIM', base .. 'Q', 0, 999)
end
if #taken == 0 and unsound or lapsed and wakes == 0 then
  reply[2] = -3
elseif wakes > 0 then
  reply[2] = 0
elseif clocked or #taken == 0 and want > 0 then
  for q = 1, clocked and 0 or queues do call('DEL', base .. 'k:' .. ARGV[3 + q]) end
  local due
  for _, key in ipairs({'z', 'P', 'y', 'Z', 'B'}) do
    local head = redis.pcall('ZRANGE', base .. key, 0, 0, 'WITHSCORES')
    if head[2] and tonumber(head[2]) < (due or FAR) then due = tonumber(head[2]) end
  end
  reply[2] = due and math.max(0, due - now) or -1
end
if stale then reply[3] = concat(stale) end
reply[4] = concat(taken)
return reply
