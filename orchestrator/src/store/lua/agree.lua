#!lua flags=allow-oom
-- AGREE: which aging the namespace has. A new one gets what the first caller wants; one that is in use and says nothing has
-- none. In its second form: changes it, so that those who connect from now on take the other.
-- Guarantee: it is changed only from what the caller has seen, and, unless that is forced, only while no lease is running.
-- KEYS[1] {ns.p}:e      keys built inside: g q W
-- ARGV: 1 'off', ms, or '' · 2 what the caller has seen, or '' · 3 what it is to be instead · 4 '1' = while workers are present too
-- Reply: {what it is now, number of leases that run}; 'off', ms, or 'from>to' while places are rewritten.
local g, leases = base .. 'g', go('ZCOUNT', base .. 'W', now, '+inf')
local known = go('HGET', g, 'a')
if not known then
  known = ARGV[1] ~= '' and redis.call('EXISTS', base .. 'q') == 0 and ARGV[1] or 'off'
  go('HSET', g, 'a', known)
end
if ARGV[2] ~= '' and known == ARGV[2] and (leases == 0 or ARGV[4] == '1') then
  known = ARGV[3]
  go('HSET', g, 'a', known)
end
return {known, leases}
