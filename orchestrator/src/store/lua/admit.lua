#!lua
-- ADMIT: stores new tasks that need more than a place: a person's approval before they may be claimed, a service-level
-- clock, a key under which it is to be made once, an instant when it expires, or a key that it holds alone. What only one
-- task may hold and a live one holds is not stored: the reply names its holder. A gated task is in no queue. Guarantee: as ENQ.
-- KEYS[1] {ns.p}:e      keys built inside: r:<q> t<slice> T z P y q k:<q> c<slice> D<n> X C A H a:<id><n> audit I:<key> l
-- ARGV: 1 queue · 2 Redis milliseconds after which this send is void, negative if it was sent before
--       3.. n (1..100; 1 with a key) × (id [‖ 'k' key digest] [‖ 'l' mode digest] [‖ 'x' expires u48] [‖ 'p' parent] [‖ 'd' due ms], record, state of its clock or '', what is asked or '')
-- Reply: {number of tasks newly stored, ms until the next timer or -1, id of the task that was made under the key before, or
--         '!' when that is another one, else '', ids of those not stored, each with that of the holder}; error LATE or QUEUEFULL.
local queue, void = ARGV[1], tonumber(ARGV[2])
local key = sub(ARGV[3], 15, 15) == 'k' and base .. 'I:' .. sub(ARGV[3], 16, 31)
local known = key and go('GET', key)
if known then return {0, next_due(), sub(known, 1, 16) == sub(ARGV[3], 32, 47) and sub(known, 17) or '!', ''} end
if now > math.abs(void) then return redis.error_reply('LATE this send is void, it came too late') end
local fresh, mine, others = {}, {}, ''
for i = 3, #ARGV, 4 do
  local id = sub(ARGV[i], 1, 14)
  if not records({id})[1] and (void > 0 or not find_finished(id)) then
    local at = key and 48 or 15
    local digest = sub(ARGV[i], at, at) == 'l' and sub(ARGV[i], at + 2, at + 17)
    local holder = digest and (mine[digest] or holder_of(digest))
    if holder then
      others = others .. id .. holder
      if key then call('SET', key, sub(ARGV[i], 32, 47) .. holder, 'PX', IDEMPOTENCY_TTL) end
    else
      if digest then mine[digest] = id end
      fresh[#fresh + 1] = i
    end
  end
end
if #fresh > 0 and go('ZCARD', base .. 'r:' .. queue) + #fresh > {{queue_max}} then
  return redis.error_reply('QUEUEFULL ' .. queue)
end
local created, blocked, questions, stored = {}, {}, {}, 0
for _, i in ipairs(fresh) do
  local id, extra, record, state, asking = sub(ARGV[i], 1, 14), sub(ARGV[i], 15), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  stored = stored + 1
  if key then
    call('SET', key, sub(extra, 18, 33) .. id, 'PX', IDEMPOTENCY_TTL)
    extra = sub(extra, 34)
  end
  if byte(extra) == 108 then
    lock(id, sub(extra, 2, 2), sub(extra, 3, 18))
    extra = sub(extra, 19)
  end
  if byte(extra) == 120 then
    go('ZADD', base .. 'y', format('%.0f', (unpack_bytes('>I6', extra, 2))), 'x' .. id)
    extra = sub(extra, 8)
  end
  if byte(extra) == 112 then
    local parent = sub(extra, 2, 15)
    local children = base .. 'c' .. sub(parent, 1, 4)
    local line = go('HGET', children, parent) or ''
    if #line < 14000 and sub(line, -14) ~= id then go('HSET', children, parent, line .. id) end
    call('PEXPIRE', children, DEAD_RETENTION + 2 * BUCKET)
    extra = sub(extra, 16)
  end
  local due = #extra > 1 and tonumber(sub(extra, 2)) or 0
  if bit.band(flags_of(record), QUIET) == 0 then created[#created + 1] = id end
  store(id, record)
  if #state > 45 then
    go('HSET', base .. 'C', id, state)
    go('ZCARD', base .. 'y')
    arm(id, state, true)
  end
  if #asking > 0 then
    record = raise(record, 0, 1, 0, 0)
    store(id, record)
    questions[#questions + 1] = ask(id, 0, cmsgpack.unpack(asking))
    blocked[#blocked + 1] = element(id, record)
  elseif due > now then
    go('ZADD', base .. 'z', format('%.0f', due), 'd' .. id)
  else
    ready(id, record, now)
  end
end
-- A timer wakes somebody too, who then knows when it is due.
if stored > 0 then
  token(queue)
  local event = {'c', concat(created)}
  if #blocked > 0 then
    event = {'c', event[2], 'b', concat(blocked), 'A', concat(questions)}
  end
  announce(event)
end
return {stored, next_due(), '', others}
