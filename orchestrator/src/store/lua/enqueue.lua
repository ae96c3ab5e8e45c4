#!lua
-- ENQ: stores new tasks of one queue and makes them runnable or schedules them.
-- Guarantee: all or none; a task that is known already is left as it is, so a repeated or late send changes nothing.
-- Refused when memory is full, before anything is written (this script does not carry allow-oom).
-- KEYS[1] {ns.p}:e      keys built inside: r:<q> t<slice> T z q k:<q> c<slice> D<n> X
-- ARGV: 1 queue · 2 Redis milliseconds after which this send is void · 3 bound of the queue · 4 '1' if sent before
--       5 number of tasks n (1..1000) · n × (id, record, due ms or 0) · any number of (parent, child)
-- Reply: number of tasks newly stored; error LATE or QUEUEFULL.
local queue, n = ARGV[1], tonumber(ARGV[5])
if now > tonumber(ARGV[2]) then return redis.error_reply('LATE this send is void, it came too late') end
local ready_key = base .. 'r:' .. queue
local waiting = go('ZCARD', ready_key)
if waiting + n > tonumber(ARGV[3]) then return redis.error_reply('QUEUEFULL ' .. queue) end

local ids = {}
for i = 1, n do ids[i] = ARGV[3 + 3 * i] end
local known = records(ids)
if ARGV[4] == '1' then
  for i = 1, n do known[i] = known[i] or find_finished(ids[i]) end
end

local fresh, scores, timers, created, at = {}, {}, {}, {}, {}
local score = {}
for i = 1, n do
  if not known[i] then
    local id, record, due = ids[i], ARGV[4 + 3 * i], ARGV[5 + 3 * i]
    fresh[#fresh + 1] = id
    at[#at + 1] = record
    created[#created + 1] = id .. sub(record, 2, 9)
    if due == '0' then
      local class = byte(record, 13)
      local s = score[class]
      if not s then s = string.format('%.0f', class * CLASS + now) score[class] = s end
      scores[#scores + 1] = s
      scores[#scores + 1] = id
    else
      timers[#timers + 1] = due
      timers[#timers + 1] = 'd' .. id
    end
  end
end
if #fresh == 0 then return 0 end

by_slice(fresh, function(key, i, j)
  local fields = {}
  for x = i, j do fields[#fields + 1] = fresh[x] fields[#fields + 1] = at[x] end
  go('HSET', key, unpack(fields))
  go('ZADD', base .. 'T', 0, sub(fresh[i], 1, 4))
end)
if #scores > 0 then go('ZADD', ready_key, unpack(scores)) end
if #timers > 0 then go('ZADD', base .. 'z', unpack(timers)) end
if waiting == 0 then go('SADD', base .. 'q', queue) end
for i = 6 + 3 * n, #ARGV, 2 do
  local parent, child = ARGV[i], ARGV[i + 1]
  local children = base .. 'c' .. sub(parent, 1, 4)
  local line = go('HGET', children, parent) or ''
  local listed = false
  for x = 1, #line, 14 do listed = listed or sub(line, x, x + 13) == child end
  if not listed and #line < 14000 then go('HSET', children, parent, line .. child) end
  go('PEXPIRE', children, DEAD_RETENTION + 2 * BUCKET)
end
go('ZADD', base .. 'k:' .. queue, 0, 'x')
announce({'c', table.concat(created)})
return #fresh
