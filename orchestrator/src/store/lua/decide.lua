#!lua flags=allow-oom
-- DECIDE: one person's word on an approval. The first decision wins; whoever comes later is told who won.
-- Who may decide by role or name is judged before, from what APPROVALS tells; what must hold at the same instant is
-- judged here: still pending and in time, not the submitter, one vote each, and what was shown is what is decided.
-- KEYS[1] {ns.p}:e      keys built inside: a:<id><n> A H j:<id> audit t<slice> T z P y r:<q> q k:<q> D<n> B n i:<inbox> C C<n> l Q
-- ARGV: 1 id · 2 number · 3 op: 'approve', 'reject', 'delegate' · 4 who · 5 note, or whom it is delegated to
--       6 hash of what was shown, or '' · 7 decision's form, MessagePack, or '' · 8 '1' = the submitter may decide
--       9 letter ‖ ending of a gated task, should it be rejected · 10 the same, should it have expired
--       11 a single-use word, or '' · 12 who may decide, as judged
-- Reply: {outcome, status, who, why, at ms, votes, quorum, ms until the next timer or -1} with outcome 'unknown', 'closed' (status tells how), 'own',
--        'stale', 'voted', 'used', 'changed' (who may decide has changed: judge again), 'counted', 'delegated' or 'done'.
local id, n, op, who = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local key = approval_key(id, n)
local found = go('HMGET', key, 'st', 'ex', 'own', 'hash', 'q', 'n', 'by', 'who', 'why', 'at')
local status, quorum, votes = found[1], tonumber(found[5]) or 1, tonumber(found[6]) or 0
local function reply(outcome, st)
  return {outcome, st or status or '', found[8] or '', found[9] or '', found[10] or '', votes, quorum, next_due()}
end
if not status then return reply('unknown') end
if status ~= 'pending' then return reply('closed') end
local record = workable(id)
if not record or bit.band(flags_of(record), ON_APPROVAL) == 0 then return reply('unknown') end
-- Case says nothing about who somebody is: names of API keys are written in capitals, those of tokens are not.
local person = string.lower(who)
if ARGV[8] ~= '1' and found[3] ~= '' and string.lower(found[3]) == person then return reply('own') end
if found[7] ~= ARGV[12] then return reply('changed') end
if ARGV[6] ~= '' and ARGV[6] ~= found[4] then return reply('stale') end
local event = {}
if now >= tonumber(found[2]) then
  decided(id, record, n, 'timeout', '', 'nobody decided in time', '', ARGV[10], event)
  announce_all(event)
  found[8], found[9], found[10] = '', 'nobody decided in time', format('%.0f', now)
  return reply('closed', 'timeout')
end
if ARGV[11] ~= '' and go('HSETNX', key, '!' .. ARGV[11], 1) == 0 then return reply('used') end
if op == 'delegate' then
  -- Whoever is on the list already was put there by an earlier copy of this call, or before.
  if string.find(' ' .. found[7] .. ' ', ' ' .. ARGV[5] .. ' ', 1, true) then return reply('delegated') end
  if found[7] ~= '' then go('HSET', key, 'by', found[7] .. ' ' .. ARGV[5]) end
  event.A = id .. pack('>I2', n) .. 'd'
  audit('delegated', id, n, who, ARGV[5], found[4])
  announce_all(event)
  return reply('delegated')
end
if go('HSETNX', key, '~' .. person, 1) == 0 then return reply('voted') end
if go('HSETNX', key, '+' .. who, format('%.0f', now) .. ' ' .. ARGV[5]) == 0 then return reply('voted') end
votes = votes + 1
if op == 'approve' and votes < quorum then
  go('HSET', key, 'n', votes)
  event.A = id .. pack('>I2', n) .. 'v'
  audit('vote', id, n, who, ARGV[5], found[4])
  announce_all(event)
  return reply('counted')
end
if op == 'approve' then go('HSET', key, 'n', votes) end
status = op == 'approve' and 'approved' or 'rejected'
decided(id, record, n, status, who, ARGV[5], ARGV[7], ARGV[9], event)
announce_all(event)
found[8], found[9], found[10] = who, ARGV[5], format('%.0f', now)
return reply('done')
