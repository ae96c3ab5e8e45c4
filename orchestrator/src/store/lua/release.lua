#!lua flags=allow-oom
-- RELEASE: gives tasks back unharmed, in their old place. Counts no attempt.
-- Guarantee: as STEP's finish. A task whose cancelling was asked for meanwhile ends as cancelled instead.
-- KEYS[1] {ns.p}:e      keys built inside: g w:<worker> t<slice> T r:<q> q k:<q> z D<n> B n i:<inbox> C C<n> y l Q
-- ARGV: 1 worker · 2 generation · 3 letter ‖ ending, should one be cancelled · ids ‖ epochs (1..1000)
-- Reply: ids ‖ epochs that were stale; error LOST.
local worker = ARGV[1]
if go('HGET', base .. 'g', 'w' .. worker) ~= ARGV[2] then return redis.error_reply('LOST ' .. worker) end
local released, ended, stale, violated = {}, {}, {}, ''
for i = 4, #ARGV do
  local member = ARGV[i]
  local id = sub(member, 1, 14)
  local record = go('SREM', base .. 'w:' .. worker, member) == 1 and workable(id)
  if not record then
    stale[#stale + 1] = member
  else
    record = raise(record, 1, 2, 0, 0)
    if bit.band(flags_of(record), CANCEL) ~= 0 then
      local late
      ended[#ended + 1], late = finish(id, record, ARGV[3])
      violated = violated .. late
    else
      give_back(id, record, 'q')
      may_expire(id, record, true)
      ready(id, record, created_at(id))
      released[#released + 1] = element(id, record)
    end
  end
end
local event = {}
if #released > 0 then event = {'l', table.concat(released)} end
if #ended > 0 then event[#event + 1] = 'e' event[#event + 1] = table.concat(ended) end
if #violated > 0 then event[#event + 1] = 'V' event[#event + 1] = violated end
if #event > 0 then event[#event + 1] = 'w' event[#event + 1] = worker end
announce(event)
return table.concat(stale)
