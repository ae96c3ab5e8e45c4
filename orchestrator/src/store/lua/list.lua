#!lua flags=allow-oom
-- LIST: tasks by id, for a page of a listing: the live ones among them, or the ended ones; others are passed over.
-- KEYS[1] {ns.p}:e      keys built inside: t<slice> c<slice> r:<q> z P s D<n> X j:<id>
-- ARGV: 1 bytes of records after which no further ids are looked at
--       2 'live', or the number of the bucket where ended tasks are looked for first · 3.. ids (1..1000)
-- Reply: {ids looked at, then for each task: id, where, record or value, children, number}; the last four as GET says.
local most, place, n = tonumber(ARGV[1]), ARGV[2], #ARGV
local last, bytes, ids, found = 2, 0, {}, {}
while last < n and bytes < most do
  -- Few at a time: a record may have two megabytes.
  local first = last + 1
  last = math.min(last + 20, n)
  local some, values = {unpack(ARGV, first, last)}, nil
  if place == 'live' then
    values = records(some)
  else
    values = go('HMGET', base .. 'D' .. place, unpack(some))
    for i = 1, #some do
      if not values[i] then values[i] = select(2, find_finished(some[i])) end
    end
  end
  for i = 1, #some do
    if values[i] then
      ids[#ids + 1], found[#found + 1] = some[i], values[i]
      bytes = bytes + #values[i]
    end
  end
end

local children, where, number = {}, {}, {}
by_slice(ids, function(key, i, j)
  local part = go('HMGET', base .. 'c' .. sub(key, -4), unpack(ids, i, j))
  for x = i, j do children[x] = part[x - i + 1] end
end)

if place == 'live' then
  local queues, rest = {}, {}
  for i = 1, #ids do
    if not sound(ids[i], found[i]) then
      where[i] = 'running'
    elseif bit.band(flags_of(found[i]), ON_APPROVAL + ON_TIMER) ~= 0 then
      where[i] = 'parked'
      local n = bit.band(flags_of(found[i]), JOURNAL) ~= 0 and 
        go('HGET', base .. 'j:' .. ids[i], bit.band(flags_of(found[i]), GATED) ~= 0 and '\0w' or '\0n')
      number[i] = (go('ZSCORE', base .. 'P', 'p' .. ids[i]) or '') .. ' ' .. (n or '0')
    elseif bit.band(flags_of(found[i]), SHELVED) ~= 0 then
      where[i] = 'shelf'
    else
      local queue = queue_of(found[i])
      queues[queue] = queues[queue] or {{}, {}}
      table.insert(queues[queue][1], i)
      table.insert(queues[queue][2], ids[i])
    end
  end
  for queue, asked in pairs(queues) do
    local scores = go('ZMSCORE', base .. 'r:' .. queue, unpack(asked[2]))
    for k, i in ipairs(asked[1]) do
      if scores[k] then where[i] = 'ready' else rest[#rest + 1] = i end
    end
  end
  if #rest > 0 then
    local timers, names = {}, {}
    for k, i in ipairs(rest) do timers[k], names[k] = 'd' .. ids[i], ids[i] end
    local due, started = go('ZMSCORE', base .. 'z', unpack(timers)), go('HMGET', base .. 's', unpack(names))
    for k, i in ipairs(rest) do
      where[i] = due[k] and 'timer' or 'running'
      number[i] = due[k] or started[k]
    end
  end
end

local reply = {last - 2}
for i = 1, #ids do
  for _, part in ipairs({ids[i], where[i] or 'ended', found[i], children[i] or '', number[i] or ''}) do
    reply[#reply + 1] = part
  end
end
return reply
