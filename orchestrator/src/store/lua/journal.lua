#!lua flags=allow-oom
-- JOURNAL: notes what a running task has done, and renews its worker's lease.
-- Guarantee: as STEP's finish. What is noted stays, but for the intent of an outside effect, which its outcome replaces;
-- the same note sent twice is noted once.
-- KEYS[1] {ns.p}:e      keys built inside: g W w:<worker> t<slice> j:<id> x v<hour> O P Q
-- ARGV: 1 worker · 2 generation · 3 id ‖ epoch · 4 lease ms · 5 name · 6 entry · 7 most entries · 8 most bytes
--       k (0..100) × (name, entry, event's id, event, its names): what it has told since the last note
-- Reply: 'noted', 'woke' (noted, and a task waited for what was told), 'stale', 'taken' (another entry has the name) or 'full'; error LOST.
local worker, member, name, entry = ARGV[1], ARGV[3], ARGV[5], ARGV[6]
if go('HGET', base .. 'g', 'w' .. worker) ~= ARGV[2] then return redis.error_reply('LOST ' .. worker) end
if go('SISMEMBER', base .. 'w:' .. worker, member) == 0 then return 'stale' end
local id = sub(member, 1, 14)
local journal = base .. 'j:' .. id
local record = workable(id)
if not record then return 'stale' end
local present = go('HGET', journal, name)
if present == entry then return 'noted' end
if present and not (byte(present) == 111 and byte(entry) == 79) then return 'taken' end
local bytes = (tonumber(call('HGET', journal, '\0b')) or 0) + #entry + (present and 0 or #name)
for i = 9, #ARGV, 5 do bytes = bytes + #ARGV[i] + #ARGV[i + 1] end
local entries = call('HLEN', journal) + (#ARGV - 8) / 5
if not present and entries >= tonumber(ARGV[7]) or bytes > tonumber(ARGV[8]) then return 'full' end
go('ZADD', base .. 'W', 'XX', 'GT', now + ARGV[4], worker)
call('HSET', journal, name, entry, '\0b', bytes)
local outcome = 'noted'
if #ARGV > 8 then
  --{{tell}}
  for i = 9, #ARGV, 5 do
    if call('HSETNX', journal, ARGV[i], ARGV[i + 1]) == 1 then tell_event(ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]) end
  end
  if woken > 0 then outcome = 'woke' end
end
if bit.band(flags_of(record), JOURNAL) == 0 then
  go('HSET', base .. 't' .. sub(id, 1, 4), id, with_flags(record, bit.bor(flags_of(record), JOURNAL)))
end
return outcome
