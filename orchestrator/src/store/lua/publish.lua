#!lua
-- PUBLISH: appends events that somebody tells. Guarantee: an event that was sent twice is there once.
-- KEYS[1] {ns.p}:e      keys built inside: e x v<hour> O P
-- ARGV: 1 Redis milliseconds after which this send is void · n (1..100) × (id, event as MessagePack, its names)
-- Reply: {now, number of tasks that waited for one of them}; error LATE.
if now > tonumber(ARGV[1]) then return redis.error_reply('LATE this send is void, it came too late') end
--{{tell}}
for i = 2, #ARGV, 3 do tell_event(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
return {now, woken}
