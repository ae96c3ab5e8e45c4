#!lua flags=allow-oom
-- UNSHELVE: a worker that handles the types is here: their tasks go back to their queues, in their old place.
-- KEYS[1] {ns.p}:e      keys built inside: u:<type> U t<slice> T r:<q> q k:<q> Q
-- ARGV: 1 most tasks to move (1..1000) · task types
-- Reply: number of tasks moved; call again while it is the most.
local room, moved = tonumber(ARGV[1]), {}
for i = 2, #ARGV do
  local shelf = base .. 'u:' .. ARGV[i]
  if room > #moved and go('SISMEMBER', base .. 'U', ARGV[i]) == 1 then
    local ids = go('ZRANGE', shelf, 0, room - #moved - 1)
    for _, id in ipairs(ids) do
      local record = records({id})[1]
      if sound(id, record) then
        record = with_flags(raise(record, 0, 1, 0, 0), bit.band(flags_of(record), 65535 - SHELVED))
        store(id, record)
        ready(id, record, created_at(id))
        moved[#moved + 1] = element(id, record)
      elseif record then
        quarantine(id, record)
      end
    end
    if #ids > 0 then go('ZREMRANGEBYRANK', shelf, 0, #ids - 1) end
    if go('ZCARD', shelf) == 0 then go('SREM', base .. 'U', ARGV[i]) end
  end
end
if #moved > 0 then announce({'u', table.concat(moved)}) end
return #moved
