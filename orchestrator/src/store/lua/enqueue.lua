#!lua
-- ENQ: stores new tasks of one queue and makes them runnable or schedules them.
-- Guarantee: all or none; a task that is known already is left as it is, so a repeated or late send changes nothing.
-- Refused when memory is full, before anything is written (this script does not carry allow-oom). What may fail on a
-- key of the wrong type comes before the writes that count, so a failed call leaves nothing half done.
-- The first send of a task runs without the shared functions; a repeated one runs with them, to look further back.
-- KEYS[1] {ns.p}:e      keys built inside: r:<q> t<slice> T z q k:<q> c<slice> D<n> X
-- ARGV: 1 queue · 2 Redis milliseconds after which this send is void, negative if it was sent before
--       3.. n (1..1000) × (id [‖ 'p' parent] [‖ 'd' due ms], record)
-- Reply: number of tasks newly stored; error LATE or QUEUEFULL.
local queue, void = ARGV[1], tonumber(ARGV[2])
if now > (void < 0 and -void or void) then return redis.error_reply('LATE this send is void, it came too late') end
local n = (#ARGV - 2) / 2
local ready_key = base .. 'r:' .. queue
local waiting = call('ZCARD', ready_key)
if void > 0 and waiting + n > {{queue_max}} then return redis.error_reply('QUEUEFULL ' .. queue) end

-- The usual call, one task to run at once, without the tables that many would need.
if n == 1 and void > 0 and #ARGV[3] == 14 then
  local id, slice = ARGV[3], sub(ARGV[3], 1, 4)
  local key = base .. 't' .. slice
  if call('HEXISTS', key, id) == 1 then return 0 end
  if waiting == 0 then
    call('ZADD', base .. 'k:' .. queue, 0, 'x')
    call('SADD', base .. 'q', queue)
  end
  call('ZADD', base .. 'T', 0, slice)
  -- The third bit of the flags' first byte: QUIET.
  if byte(ARGV[4], 14) % 8 < 4 then call('XADD', base .. 'e', 'MAXLEN', '~', EVENTS_MAX, '*', 'c', id) end
  call('ZADD', ready_key, format('%.0f', byte(ARGV[4], 13) * CLASS + now), id)
  call('HSET', key, id, ARGV[4])
  return 1
end

local ids, records, extras = {}, {}, nil
for i = 1, n do
  local id = ARGV[1 + 2 * i]
  if #id > 14 then
    extras = extras or {}
    extras[sub(id, 1, 14)] = sub(id, 15)
    id = sub(id, 1, 14)
  end
  ids[i], records[i] = id, ARGV[2 + 2 * i]
end

-- The tasks that nobody knows yet, slice by slice.
local slices, fresh, all_new = {}, {}, void > 0
do
  local i = 1
  while i <= n do
    local slice, j = sub(ids[i], 1, 4), i
    while j < n and sub(ids[j + 1], 1, 4) == slice do j = j + 1 end
    local key = base .. 't' .. slice
    local known = call('HMGET', key, unpack(ids, i, j))
    local fields = {}
    for x = i, j do
      if not known[x - i + 1] and (all_new or not find_finished(ids[x])) then
        fields[#fields + 1] = ids[x]
        fields[#fields + 1] = records[x]
        fresh[#fresh + 1] = x
      end
    end
    if #fields > 0 then slices[#slices + 1] = {key, slice, fields} end
    i = j + 1
  end
end
if #fresh == 0 then return 0 end
if waiting + #fresh > {{queue_max}} then return redis.error_reply('QUEUEFULL ' .. queue) end

local scores, timers, created, family, score = {}, nil, {}, nil, {}
for i = 1, #fresh do
  local x = fresh[i]
  local id, due = ids[x], nil
  if byte(records[x], 14) % 8 < 4 then created[#created + 1] = id end
  local extra = extras and extras[id]
  if extra then
    if byte(extra) == 112 then
      family = family or {}
      family[#family + 1] = {sub(extra, 2, 15), id}
      extra = sub(extra, 16)
    end
    due = #extra > 1 and sub(extra, 2)
  end
  if due then
    timers = timers or {}
    timers[#timers + 1] = due
    timers[#timers + 1] = 'd' .. id
  else
    local class = byte(records[x], 13)
    local s = score[class]
    if not s then s = format('%.0f', class * CLASS + now) score[class] = s end
    scores[#scores + 1] = s
    scores[#scores + 1] = id
  end
end

-- A queue that was not empty has its token, or somebody who took it and owes a claim. A timer wakes somebody too, who
-- then knows when it is due.
if waiting == 0 or timers then call('ZADD', base .. 'k:' .. queue, 0, 'x') end
for i = 1, #slices do call('ZADD', base .. 'T', 0, slices[i][2]) end
if waiting == 0 then call('SADD', base .. 'q', queue) end
if timers then call('ZCARD', base .. 'z') end
for _, pair in ipairs(family or {}) do
  local children = base .. 'c' .. sub(pair[1], 1, 4)
  local line = call('HGET', children, pair[1]) or ''
  if #line < 14000 and sub(line, -14) ~= pair[2] then call('HSET', children, pair[1], line .. pair[2]) end
  call('PEXPIRE', children, DEAD_RETENTION + 2 * BUCKET)
end
if #created > 0 then call('XADD', base .. 'e', 'MAXLEN', '~', EVENTS_MAX, '*', 'c', concat(created)) end
if #scores > 0 then call('ZADD', ready_key, unpack(scores)) end
if timers then call('ZADD', base .. 'z', unpack(timers)) end
for i = 1, #slices do call('HSET', slices[i][1], unpack(slices[i][3])) end
return #fresh
