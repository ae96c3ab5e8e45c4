#!lua flags=allow-oom
-- STEP: ends n tasks that this worker holds and claims up to m others, in one round trip.
-- Guarantee: a finish counts only while the worker's generation is the present one and it holds the task at that
-- epoch; else nothing of that task is touched and the reply names it stale. Claimed ids leave their queue for the
-- worker's set in the same instant. One STEP of a worker is in flight at a time.
-- KEYS[1] {ns.p}:e      keys built inside: g w:<worker> r:<q> k:<q> t<slice> D<n> B X z n i:<inbox> Q
-- ARGV: 1 worker · 2 generation · 3 m (0..256) · 4 queue whose token was taken, or '' · 5 number of queues (0..8)
--       queues in order of preference · n × (id ‖ epoch, letter ‖ ending)
-- Reply: {now, d, stale ids ‖ epochs, claimed ids ‖ epochs, record of each claimed}; error LOST. When nothing was
--         claimed, d is the ms until the next timer, -1 for none, -3 when unsound things were cleared away: look again.
local worker, want, woken, queues = ARGV[1], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local asked = {'w' .. worker}
for i = 1, queues do asked[i + 1] = 'p' .. ARGV[5 + i] end
local seat = go('HMGET', base .. 'g', unpack(asked))
if seat[1] ~= ARGV[2] then return redis.error_reply('LOST generation ' .. ARGV[2] .. ' of ' .. worker .. ' is over') end

local held = base .. 'w:' .. worker
local stale, event = {}, {}
local first = 6 + queues
if #ARGV >= first then
  local members = {}
  for i = first, #ARGV, 2 do members[#members + 1] = ARGV[i] end
  local holds = go('SMISMEMBER', held, unpack(members))
  local ids, tails, left = {}, {}, {}
  for i, member in ipairs(members) do
    if holds[i] == 1 then
      ids[#ids + 1] = sub(member, 1, 14)
      tails[#ids] = ARGV[first + 2 * i - 1]
      left[#ids] = member
    else
      stale[#stale + 1] = member
    end
  end
  if #ids > 0 then
    local found, values, ended, waiters = records(ids), {}, {}, {}
    local stamp = pack('>I6', now)
    for i, id in ipairs(ids) do
      local record, tail = found[i], tails[i]
      if record then
        local epoch, changes, attempts = unpack_bytes('>I4I4B', record, 2)
        local tag = pack('>I4I4', epoch + 1, changes + 2)
        local value = sub(record, 1, 1) .. tag .. char(attempts < 255 and attempts + 1 or 255) .. sub(record, 11)
          .. stamp .. tail .. pack('>I4', #record)
        ended[#ended + 1] = id .. tag .. sub(tail, 1, 1)
        if sub(tail, 1, 1) == 'f' then
          bury(id, value)
        else
          values[#values + 1] = id
          values[#values + 1] = value
        end
        if sub(record, 14, 15) ~= '\0\0' and bit.band(flags_of(record), AWAITED) ~= 0 then waiters[#waiters + 1] = id end
      else
        stale[#stale + 1] = left[i]
      end
    end
    if #values > 0 then go('HSET', bucket(now), unpack(values)) end
    go('SREM', held, unpack(left))
    by_slice(ids, function(key, i, j) go('HDEL', key, unpack(ids, i, j)) end)
    for _, id in ipairs(waiters) do tell(id) end
    if #ended > 0 then event = {'e', table.concat(ended)} end
  end
end

local taken, started, reply = {}, {}, {now, -2, '', ''}
local room = want
for i = 1, queues do
  if room > 0 and not seat[i + 1] then
    local key = base .. 'r:' .. ARGV[5 + i]
    local ids = go('ZRANGE', key, 0, room - 1)
    if #ids > 0 then
      go('ZREMRANGEBYRANK', key, 0, #ids - 1)
      local found = records(ids)
      for x, id in ipairs(ids) do
        local record = found[x]
        if sound(id, record) then
          taken[#taken + 1] = id .. sub(record, 2, 5)
          started[#started + 1] = id .. sub(record, 2, 9)
          reply[#reply + 1] = record
          room = room - 1
        elseif record then
          quarantine(id, record)
        end
      end
      -- A queue whose head held nothing sound is looked at again at once, not skipped.
      if #taken == 0 then go('ZADD', base .. 'k:' .. ARGV[5 + i], 0, 'x') reply[2] = -3 end
    end
  end
end
if #taken > 0 then
  go('SADD', held, unpack(taken))
  event[#event + 1] = 's'
  event[#event + 1] = table.concat(started)
  if room == 0 and woken ~= '' then go('ZADD', base .. 'k:' .. woken, 0, 'x') end
elseif want > 0 and reply[2] ~= -3 then
  for i = 1, queues do redis.call('DEL', base .. 'k:' .. ARGV[5 + i]) end
  reply[2] = next_due()
end
if #event > 0 then
  event[#event + 1] = 'w'
  event[#event + 1] = worker
  announce(event)
end
reply[3], reply[4] = table.concat(stale), table.concat(taken)
return reply
