#!lua flags=allow-oom
-- HOLD: gives runnable tasks to an agent that is no worker of ours, each under a lease of its own: the worker that Redis sees
-- holds nothing else, so that whatever the agent falls silent about is rescued alone. What this call, or in its renewing form
-- this agent, holds already gets a new lease.
-- Guarantee: a task leaves its queue or its shelf for the holder's set in the same instant; sent twice it answers `mine`.
-- KEYS[1] {ns.p}:e      keys built inside: g W w:<worker> r:<q> u:<type> U t<slice> T s z C y D<n> B X n i:<inbox> l Q
-- ARGV: 1 name to be told · 2 lease ms · 3 most leases of the namespace · 4 1 = renews what the agent holds by an earlier call
--       n (1..100) × (id, task type, worker, generation)
-- Reply: {now, n × (word, generation, record)}; word 'held' or 'mine', else what it is instead, without a record: 'ended',
--        'parked', 'pending', 'running', 'paused', 'unknown', or 'crowded' when there are too many leases.
local reply, unshelved, begun, expired, late = {now}, '', '', '', ''

local function why_not(id, record, task_type)
  local flags, queue = flags_of(record), queue_of(record)
  if bit.band(flags, ON_APPROVAL + ON_TIMER) ~= 0 then return 'parked' end
  if go('ZSCORE', base .. 'z', 'd' .. id) then return 'pending' end
  if bit.band(flags, SHELVED) ~= 0 then
    if not go('ZSCORE', base .. 'u:' .. task_type, id) then return 'pending' end
  elseif not go('ZSCORE', base .. 'r:' .. queue, id) then
    return 'running'
  end
  if go('HEXISTS', base .. 'g', 'p' .. queue) == 1 then return 'paused' end
  if go('ZCARD', base .. 'W') >= tonumber(ARGV[3]) then return 'crowded' end
end

-- Takes a task from where it waits.
local function pick(id, record, task_type)
  if bit.band(flags_of(record), SHELVED) == 0 then
    go('ZREM', base .. 'r:' .. queue_of(record), id)
    return record
  end
  go('ZREM', base .. 'u:' .. task_type, id)
  if go('ZCARD', base .. 'u:' .. task_type) == 0 then go('SREM', base .. 'U', task_type) end
  return with_flags(record, bit.band(flags_of(record), 65535 - SHELVED))
end

for i = 5, #ARGV, 4 do
  local id, task_type, worker, generation = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local record = workable(id)
  local held, word = base .. 'w:' .. worker, nil
  if not record then
    word = find_finished(id) and 'ended' or 'unknown'
  elseif go('SISMEMBER', held, id .. sub(record, 2, 5)) == 1 then
    local holding = go('HGET', base .. 'g', 'w' .. worker)
    word = holding and (holding == generation or ARGV[4] == '1') and 'mine' or 'running'
    if word == 'mine' then
      generation = holding
      go('ZADD', base .. 'W', now + ARGV[2], worker)
    end
  else
    word = why_not(id, record, task_type)
  end
  if not word and has_expired(id, record) then
    word = 'ended'
    local ended, violated = finish(id, raise(pick(id, record, task_type), 1, 1, 0, 0), EXPIRED)
    expired, late = expired .. ended, late .. violated
  end
  if not word then
    word = 'held'
    bucket(now)
    local was_shelved = bit.band(flags_of(record), SHELVED) ~= 0
    record = pick(id, record, task_type)
    if was_shelved then
      record = raise(record, 0, 1, 0, 0)
      store(id, record)
      unshelved = unshelved .. element(id, record)
    end
    -- Whatever an earlier hold of the same agent has left behind is not counted any more.
    redis.call('DEL', held)
    go('SADD', held, id .. sub(record, 2, 5))
    go('HSET', base .. 'g', 'w' .. worker, generation)
    go('ZADD', base .. 'W', now + ARGV[2], worker)
    go('HSET', base .. 's', id, format('%.0f', now) .. ' ' .. worker)
    if bit.band(flags_of(record), CLOCKED) ~= 0 then turn(id, 'm') end
    if bit.band(flags_of(record), UNIQUE) ~= 0 then unlock(id, 's') end
    begun = begun .. element(id, record)
  end
  local mine = word == 'held' or word == 'mine'
  for _, part in ipairs({word, generation, mine and record or ''}) do reply[#reply + 1] = part end
end
announce({'e', expired, 'V', late})
announce({'u', unshelved, 's', begun, 'w', ARGV[1]})
return reply
