#!lua flags=allow-oom
-- PARK: a running task waits for a person, for an instant or for an event, and holds nothing meanwhile. Counts no attempt.
-- Guarantee: as STEP's finish. A task whose cancelling was asked for meanwhile ends as cancelled instead.
-- KEYS[1] {ns.p}:e      keys built inside: g w:<worker> t<slice> T P y D<n> B n i:<inbox> C C<n> A H a:<id><n> j:<id> audit
--                       x v<hour> O l Q
-- ARGV: 1 worker · 2 generation · 3 id ‖ epoch · 4 letter ‖ ending, should it be cancelled · 5 name in the journal
--       6 entry of the journal; for a gate '' · 7 what is asked, or '' for a sleep · 8 of a sleep: '+' ms or instant ms
--       9 most entries of a journal · 10 most bytes · 11 name of the event that ends the wait before its instant, or ''
--       12 where the task found the last of that name, 'ms seq', or ''
--       k (0..100) × (name, entry, event's id, event, its names): what it has told since the last note
-- Reply: 'parked', 'woke' (parked, and a wait is over), 'cancelled', 'stale', or 'full' when the journal has no room, 'crowded'
--        when too many wait for the event; error LOST.
local worker, member, name, entry = ARGV[1], ARGV[3], ARGV[5], ARGV[6]
if go('HGET', base .. 'g', 'w' .. worker) ~= ARGV[2] then return redis.error_reply('LOST ' .. worker) end
if go('SISMEMBER', base .. 'w:' .. worker, member) == 0 then return 'stale' end
local id = sub(member, 1, 14)
local journal = base .. 'j:' .. id
local told = 0
for i = 13, #ARGV, 5 do told = told + #ARGV[i] + #ARGV[i + 1] end
if #entry > 0 and go('HEXISTS', journal, name) == 0 and
  (call('HLEN', journal) + (#ARGV - 12) / 5 >= tonumber(ARGV[9])
    or (tonumber(call('HGET', journal, '\0b')) or 0) + #entry + told > tonumber(ARGV[10])) then
  return 'full'
end
if #ARGV[11] > 0 and #(go('HGET', base .. 'O', ARGV[11]) or '') >= 14000 then return 'crowded' end
local record = workable(id)
go('SREM', base .. 'w:' .. worker, member)
if not record then return 'stale' end
record = raise(record, 1, 2, 0, 0)
-- What it told is noted, also when it ends here.
if #ARGV > 12 then record = with_flags(record, bit.bor(flags_of(record), JOURNAL)) end
--{{tell}}
for i = 13, #ARGV, 5 do
  if call('HSETNX', journal, ARGV[i], ARGV[i + 1]) == 1 then
    call('HINCRBY', journal, '\0b', #ARGV[i] + #ARGV[i + 1])
    tell_event(ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
  end
end
if bit.band(flags_of(record), CANCEL) ~= 0 then
  local ended, late = finish(id, record, ARGV[4])
  announce({'e', ended, 'V', late, 'w', worker})
  return 'cancelled'
end
local flags = bit.bor(flags_of(record), #entry > 0 and JOURNAL or GATED)
if #ARGV[7] > 0 then
  record = with_flags(record, bit.bor(flags, ON_APPROVAL))
  give_back(id, record, 'h')
  -- At a gate its attempt has not begun.
  if #entry == 0 then may_expire(id, record, true) end
  local n = 0
  if #entry > 0 then
    n = call('HINCRBY', journal, '\0n', 1)
    call('HSET', journal, name, sub(entry, 1, 8) .. pack('>I2', n) .. sub(entry, 11))
  elseif redis.call('EXISTS', approval_key(id, 0)) == 1 then
    -- Another gate was passed before: each question has a number of its own.
    go('HGET', journal, '\0n')
    n = call('HINCRBY', journal, '\0n', 1)
    call('HSET', journal, '\0w', n)
    record = with_flags(record, bit.bor(flags_of(record), JOURNAL))
    store(id, record)
  end
  local question = ask(id, n, cmsgpack.unpack(ARGV[7]), name)
  announce({'b', element(id, record), 'A', question, 'w', worker})
else
  local due = sub(ARGV[8], 1, 1) == '+' and now + sub(ARGV[8], 2) or tonumber(ARGV[8])
  local awaits = #ARGV[11] > 0
  record = with_flags(record, bit.bor(flags, ON_TIMER, awaits and ON_EVENT or 0))
  give_back(id, record, 'q')
  local stored, over = entry .. pack('>I6', due), false
  if awaits then
    stored, over = await(id, name, stored, ARGV[11], ARGV[12])
    if over then due, woken = now, woken + 1 end
  end
  call('HSET', journal, name, stored)
  go('ZADD', base .. 'P', format('%.0f', due), 'p' .. id)
  announce({'b', element(id, record), 'w', worker})
end
if #entry > 0 then call('HINCRBY', journal, '\0b', #name + #entry) end
return woken > 0 and 'woke' or 'parked'
