#!lua flags=allow-oom
-- GAUGE: how long the oldest of each queue has been runnable, and the decisions since an instant.
-- With aging the oldest is looked for among the first 50 of a queue: one behind them is less than 3 steps older than the first.
-- KEYS[1] {ns.p}:e      keys built inside: q r:<q> t<slice> A H a:<id><n>
-- ARGV: 1 the instant (Unix milliseconds)
-- Reply: {instant for the next look, approvals pending, ms since the oldest of them was asked for,
--        {queue, ms, ...}, {outcome, ms from the question to it, ...}}
local function since(score) return format('%.0f', math.max(0, now - score)) end

local ages = {}
for _, queue in ipairs(go('SMEMBERS', base .. 'q')) do
  local oldest
  local first = CLASS < STRICT and go('ZRANGE', base .. 'r:' .. queue, 0, 49, 'WITHSCORES') or {}
  local bytes = 0
  for i = 1, #first, 2 do
    local record = bytes < 1048576 and records({first[i]})[1]
    bytes = bytes + (record and #record or 0)
    local at = sound(first[i], record) and time_part(tonumber(first[i + 1]), byte(record, 13))
    if at and (not oldest or at < oldest) then oldest = at end
  end
  for class = 0, CLASS < STRICT and -1 or 3 do
    local front = go('ZRANGEBYSCORE', base .. 'r:' .. queue, format('%.0f', class * CLASS),
      format('(%.0f', (class + 1) * CLASS), 'WITHSCORES', 'LIMIT', 0, 1)
    local at = front[2] and tonumber(front[2]) - class * CLASS
    if at and (not oldest or at < oldest) then oldest = at end
  end
  ages[#ages + 1] = queue
  ages[#ages + 1] = oldest and since(oldest) or 0
end

-- What is decided within this millisecond may not be all of it: it is left for the next look.
local decided, next_look = {}, now
local told = go('ZRANGEBYSCORE', base .. 'H', ARGV[1], format('(%.0f', now), 'WITHSCORES', 'LIMIT', 0, 1000)
if #told == 2000 then next_look = tonumber(told[2000]) + 1 end
for i = 1, #told, 2 do
  local fields = go('HMGET', base .. 'a:' .. told[i], 'st', 'rq')
  local asked = tonumber(fields[2])
  if fields[1] and asked then
    decided[#decided + 1] = fields[1]
    decided[#decided + 1] = format('%.0f', math.max(0, tonumber(told[i + 1]) - asked))
  end
end
local first = go('ZRANGE', base .. 'A', 0, 0, 'WITHSCORES')
return {format('%.0f', next_look), go('ZCARD', base .. 'A'), first[2] and since(tonumber(first[2])) or 0, ages, decided}
