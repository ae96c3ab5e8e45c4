#!lua flags=allow-oom
-- FORGET: deletes dead letters for good, with all that is kept of them: value, journal, clock, output, and whose parent they are. What
-- people decided about them stays in the history and in the audit.
-- Guarantee: only what has failed and was not brought back to life; each is told and audited in the same instant, once.
-- KEYS[1] {ns.p}:e      keys built inside: t<slice> D<n> B X C<n> c<slice> j:<id> p:<id> x v<hour> O P audit Q
-- ARGV: 1 who asks for it · n (1..20) × (id, event's id, event, its names)
-- Reply: {now, number of tasks that waited for what was told, then a word for each}: 'deleted', 'live', the letter of how it had
--        ended otherwise, or 'unknown'.
local reply = {now, 0}
--{{tell}}
for i = 2, #ARGV, 4 do
  local id, word = ARGV[i], 'deleted'
  if records({id})[1] then
    word = 'live'
  elseif not go('ZSCORE', base .. 'X', id) then
    -- Sent twice it is answered as the first time.
    if not go('ZSCORE', base .. 'x', ARGV[i + 1]) then
      local _, value = find_finished(id)
      word = value and letter_of(value) or 'unknown'
    end
  else
    local key = find_finished(id)
    tell_event(ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
    audit('deleted', id, 0, ARGV[1], '', '')
    if key then
      go('HDEL', key, id)
      redis.pcall('HDEL', base .. 'C' .. sub(key, #base + 2), id)
    end
    redis.call('DEL', base .. 'j:' .. id, base .. 'p:' .. id)
    redis.pcall('HDEL', base .. 'c' .. sub(id, 1, 4), id)
    go('ZREM', base .. 'X', id)
  end
  reply[#reply + 1] = word
end
reply[2] = woken
return reply
