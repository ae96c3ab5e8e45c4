#!lua flags=allow-oom
-- MANUAL RETRY: gives a failed or cancelled task a new life under its id: counters at zero, a new epoch. Its durable
-- steps stay done; what was asked and not approved is asked again. A task that never passed its gate stays dead. The new
-- life does not expire.
-- KEYS[1] {ns.p}:e      keys built inside: t<slice> T D<n> X C<n> r:<q> q k:<q> j:<id> audit l N
-- ARGV: 1 id · 2 who asks for it · 3 mode ‖ digest of the key that it holds alone, or ''
-- Reply: 'revived', 'live', 'unknown', 'gated', 'c' when it had completed, 'unique' when it is to be sent with that key, or
--        '=' ‖ id of the live task that has it.
local id = ARGV[1]
if records({id})[1] then return 'live' end
local key, value = find_finished(id)
if not value then return 'unknown' end
local letter = letter_of(value)
if letter == 'c' then return letter end
local record = sub(value, 1, (unpack_bytes('>I4', value, #value - 3)))
local flags = flags_of(record)
if bit.band(flags, GATED) ~= 0 then return 'gated' end
-- Without its journal its steps would be done again.
if bit.band(flags, JOURNAL) ~= 0 and redis.call('EXISTS', base .. 'j:' .. id) == 0 then return 'unknown' end
if bit.band(flags, UNIQUE) ~= 0 then
  if #ARGV[3] ~= 17 then return 'unique' end
  local holder = holder_of(sub(ARGV[3], 2))
  if holder then return '=' .. holder end
end
-- Ticks of its schedule may wait for it only since it has ended.
local followed = go('HEXISTS', base .. 'N', id) == 1 and FOLLOWED or 0
record = with_flags(raise(record, 1, 1, 0, 0), bit.bor(bit.band(flags, JOURNAL + PASSED + QUIET + UNIQUE + FOLLOWED), followed))
record = sub(record, 1, 9) .. '\0\0' .. sub(record, 12)
go('HDEL', key, id)
-- The clock of the life that has ended says nothing of this one.
redis.pcall('HDEL', base .. 'C' .. sub(key, #base + 2), id)
go('ZREM', base .. 'X', id)
if bit.band(flags, UNIQUE) ~= 0 then lock(id, sub(ARGV[3], 1, 1), sub(ARGV[3], 2)) end
store(id, record)
ready(id, record, now)
local journal = base .. 'j:' .. id
if bit.band(flags, JOURNAL) ~= 0 then
  redis.call('PERSIST', journal)
  local entries = go('HGETALL', journal)
  for i = 1, #entries, 2 do
    -- Questions that were not approved are asked anew, events that did not come are waited for anew.
    local kind = byte(entries[i]) ~= 0 and byte(entries[i + 1])
    if kind == 97 and sub(entries[i + 1], 11, 11) ~= 'a' or kind == 101 then call('HDEL', journal, entries[i]) end
  end
end
audit('retried', id, 0, ARGV[2], '', '')
announce({'m', element(id, record)})
return 'revived'
