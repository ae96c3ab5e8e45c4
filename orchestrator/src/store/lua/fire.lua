#!lua
-- FIRE: a schedule's tick becomes a task. Guarantee: only while the schedule is the one that the caller read and still waits
-- for this tick, so a tick makes one task however many processes see it, and however often this is sent; all or nothing.
-- Refused when memory is full, as ENQ is. The task is stored by ADMIT itself.
-- KEYS[1] {ns.p}:e      keys built inside: S S:<name> Z N, those of ADMIT, those of CANCEL
-- ARGV: 1 schedule · 2 digest of its definition (8 bytes) · 3 't' ticks that are due, 'w' the first that waits, 'h' by hand
--       4 the tick that it waits for (ms), of 't' · 5 the one behind (ms) or '', of 't' · 6 letter of what to do while the last
--       run is live: s skip, q queue, n queue, but by hand none waits, r replace, a allow · 7 most ticks that wait · 8 ticks missed · 9 letter ‖ ending of a run that is
--       replaced · 10.. n (1..100; 1 with r, w, h) × (queue, tick ms, id, record, state of its clock or '', what is asked or '')
-- Reply: {'fired', 'waits', 'live' or 'other', id of the last run or '', ms until the next timer or -1}; error QUEUEFULL.
local name, kind, overlap, waits_max = ARGV[1], ARGV[3], ARGV[6], tonumber(ARGV[7])
if overlap == 'n' then overlap, waits_max = 'q', 0 end
local state = base .. 'S:' .. name
local definition = go('HGET', base .. 'S', name)
local known = go('HMGET', state, 'n', 'id', 'w', 'p')
local awaited, last, waiting, paused = known[1] or '', known[2] or '', known[3] or '', known[4]
-- Somebody else has cut it short.
waiting = sub(waiting, 1, #waiting - #waiting % 6)
local function as_it_was(word) return {word, last, next_due()} end
local function is_live(id) return #id == 14 and records({id})[1] and true or false end

if kind == 'h' then
  -- Sent before? The schedule may have changed since. What the task is stored with stands behind its id.
  local id = sub(ARGV[12], 1, 14)
  if is_live(id) or find_finished(id) then return as_it_was('fired') end
  for i = 1, overlap == 'q' and waits_max > 0 and #waiting or 0, 6 do
    if sub(waiting, i, i + 5) == pack('>I6', ARGV[11]) then return as_it_was('waits') end
  end
end
if not definition or sub(definition, 1, 8) ~= ARGV[2] or kind ~= 'h' and paused then return as_it_was('other') end
if kind == 't' and awaited ~= ARGV[4] then return as_it_was('other') end

-- When somebody is to look at it again: at its next tick, or now when one that waits has nothing to wait for.
local function look_again(tick)
  if paused then return end
  if waiting ~= '' and not is_live(last) then tick = now end
  if tick == '' then go('ZREM', base .. 'Z', name) else go('ZADD', base .. 'Z', tick, name) end
end

if kind == 'w' then
  if sub(waiting, 1, 6) ~= pack('>I6', ARGV[11]) then return as_it_was('other') end
  if is_live(last) then
    look_again(awaited)
    return as_it_was('waits')
  end
  waiting = sub(waiting, 7)
end
-- Whether nobody has begun it, or it waits for somebody: calling it off ends it at once, and frees what it holds.
local function waits(id)
  local record = records({id})[1]
  return bit.band(flags_of(record), SHELVED + ON_APPROVAL + ON_TIMER) ~= 0
    or go('ZSCORE', base .. 'r:' .. queue_of(record), id) or go('ZSCORE', base .. 'z', 'd' .. id)
end
--{{admit}}
local runs, fired, skipped, first, word = (#ARGV - 9) / 6, 0, 0, last, 'fired'
for i = 10, #ARGV, 6 do
  local live = is_live(last)
  -- What could not be stored, being the only one of its kind, takes no place.
  local digest = overlap == 'r' and live and sub(ARGV[i + 2], 15, 15) == 'l' and sub(ARGV[i + 2], 17, 32)
  local holder = digest and holder_of(digest)
  if holder == last and waits(last) then holder = nil end
  if holder or overlap == 's' and live then
    if kind == 'h' then return {'live', holder or last, next_due()} end
    skipped = skipped + 1
  elseif overlap == 'q' and (live or waiting ~= '' and kind == 't') then
    if #waiting >= 6 * waits_max then
      if kind == 'h' then return as_it_was('live') end
      skipped = skipped + 1
    else
      waiting, word = waiting .. pack('>I6', ARGV[i + 1]), 'waits'
    end
  else
    -- Nothing is written before this is known: of `allow`, for all of them.
    local needed = overlap == 'a' and runs - fired or 1
    if go('ZCARD', base .. 'r:' .. ARGV[i]) + needed > {{queue_max}} then return redis.error_reply('QUEUEFULL ' .. ARGV[i]) end
    if overlap == 'r' and live then
      local event = {}
      call_off(last, records({last})[1], ARGV[9], event)
      announce_all(event)
    end
    -- The comparison above has shown that this is not too late; what was made under this id before is left alone.
    local stored = admit({ARGV[i], '-9007199254740991', ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]})
    if stored.err then return stored end
    if stored[4] ~= '' then
      -- One that is the only one of its kind is there already, of this schedule or not.
      if kind == 'h' then return {'live', sub(stored[4], 15, 28), next_due()} end
      skipped = skipped + 1
    else
      fired, last = fired + stored[1], sub(ARGV[i + 2], 1, 14)
      go('HSET', state, 't', ARGV[i + 1], 'id', last)
    end
  end
end
if overlap == 'q' and last ~= first then
  if first ~= '' then go('HDEL', base .. 'N', first) end
  wait_for(last, name)
end
if kind == 't' then go('HSET', state, 'n', ARGV[5]) awaited = ARGV[5] end
if waiting ~= (known[3] or '') then
  if waiting == '' then go('HDEL', state, 'w') else go('HSET', state, 'w', waiting) end
end
for field, by in pairs({f = fired, s = skipped, m = tonumber(ARGV[8])}) do
  if by > 0 then go('HINCRBY', state, field, by) end
end
if fired > 0 then go('HDEL', state, 'e', 'ea') end
if kind ~= 'h' then look_again(awaited) end
return {word, last, next_due()}
