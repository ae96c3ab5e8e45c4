#!lua flags=allow-oom
-- MANUAL RETRY: gives a failed or cancelled task a new life under its id: counters at zero, a new epoch.
-- KEYS[1] {ns.p}:e      keys built inside: t<slice> T D<n> X r:<q> q k:<q>
-- ARGV: 1 id
-- Reply: 'revived', 'live', 'unknown', or 'c' when it had completed.
local id = ARGV[1]
if records({id})[1] then return 'live' end
local key, value = find_finished(id)
if not value then return 'unknown' end
local letter = letter_of(value)
if letter == 'c' then return letter end
local record = sub(value, 1, (unpack_bytes('>I4', value, #value - 3)))
record = with_flags(raise(record, 1, 1, 0, 0), 0)
record = sub(record, 1, 9) .. '\0\0' .. sub(record, 12)
go('HDEL', key, id)
go('ZREM', base .. 'X', id)
store(id, record)
ready(id, record, now)
announce({'m', element(id, record)})
return 'revived'
