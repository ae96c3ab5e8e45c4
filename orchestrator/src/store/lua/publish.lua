#!lua
-- PUBLISH: appends events that somebody tells. Guarantee: an event that was sent twice is there once.
-- KEYS[1] {ns.p}:e      keys built inside: e x v<hour> O P I:<key>
-- ARGV: 1 Redis milliseconds after which this send is void · n (1..100) × (id [‖ key digest], event as MessagePack, its names)
-- Reply: {now, number of tasks that waited for one of them, then for each event: '', the id of the one that was told under its
--         key before, or '!' when that was another one: then none is told}; error LATE.
if now > tonumber(ARGV[1]) then return redis.error_reply('LATE this send is void, it came too late') end
local seen, refused = {}, false
for i = 2, #ARGV, 3 do
  local known = #ARGV[i] > 14 and go('GET', base .. 'I:' .. sub(ARGV[i], 15, 30))
  seen[#seen + 1] = not known and '' or sub(known, 1, 16) == sub(ARGV[i], 31) and sub(known, 17) or '!'
  refused = refused or seen[#seen] == '!'
end
if refused then return {now, 0, unpack(seen)} end
--{{tell}}
for i = 2, #ARGV, 3 do
  if seen[(i + 1) / 3] == '' then
    tell_event(sub(ARGV[i], 1, 14), ARGV[i + 1], ARGV[i + 2])
    if #ARGV[i] > 14 then
      call('SET', base .. 'I:' .. sub(ARGV[i], 15, 30), sub(ARGV[i], 31) .. sub(ARGV[i], 1, 14), 'PX', IDEMPOTENCY_TTL)
    end
  end
end
return {now, woken, unpack(seen)}
