#!lua
-- PUBLISH: appends events that somebody tells. Guarantee: an event that was sent twice is there once.
-- KEYS[1] {ns.p}:e      keys built inside: e x
-- ARGV: 1 Redis milliseconds after which this send is void · n (1..100) × (id, event as MessagePack)
-- Reply: {now, number of events newly appended}; error LATE.
if now > tonumber(ARGV[1]) then return redis.error_reply('LATE this send is void, it came too late') end
-- Ids seen of late, for as long as a send may be repeated.
go('ZREMRANGEBYSCORE', base .. 'x', '-inf', now - 120000)
local told = 0
for i = 2, #ARGV, 2 do
  if go('ZADD', base .. 'x', 'NX', now, ARGV[i]) == 1 then
    go('XADD', base .. 'e', 'MAXLEN', '~', EVENTS_MAX, '*', 'P', ARGV[i] .. ARGV[i + 1])
    told = told + 1
  end
end
return {now, told}
