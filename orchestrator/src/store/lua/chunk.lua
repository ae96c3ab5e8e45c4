#!lua
-- CHUNK: appends what a running task has put out, and tells those who read it.
-- Guarantee: as STEP's finish. The same call sent twice appends once. Chunks of a task are numbered from 1 without a gap,
-- but for those that were lost. Of them the newest are kept; older ones go a call at a time. When memory is full Redis
-- refuses this: the task goes on without.
-- KEYS[1] {ns.p}:e      keys built inside: g W w:<worker> t<slice> p:<id> n i:<inbox> Q
-- ARGV: 1 worker · 2 generation · 3 id ‖ epoch · 4 attempt u32 ‖ epoch u32 ‖ 8 bytes that name this call ‖ chunks (kind, u32 length,
--       bytes) · 5 how many chunks (0..1000) · 6 number of the last one before them, as far as known, or 0 · 7 how many were
--       lost since · 8 ms to keep it all from now on · 9 most chunks · 10 most bytes · 11 lease ms, or 0 to leave that
-- Reply: {now, number of the last chunk, 1 when cancelling was asked for}; error LOST.
local worker, member, packed, count = ARGV[1], ARGV[3], ARGV[4], tonumber(ARGV[5])
local lost = redis.error_reply('LOST ' .. worker)
if go('HGET', base .. 'g', 'w' .. worker) ~= ARGV[2] then return lost end
if go('SISMEMBER', base .. 'w:' .. worker, member) == 0 then return lost end
local id = sub(member, 1, 14)
local record = workable(id)
if not record then return lost end
-- The id of an entry: number of its last chunk - bytes of all entries up to it.
local key, number, bytes = base .. 'p:' .. id, 0, 0
local last = go('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
if last then
  number, bytes = string.match(last[1], '^(%d+)-(%d+)$')
  number, bytes = tonumber(number), tonumber(bytes)
end
if count > 0 and not (last and sub(last[2][2], 1, 16) == sub(packed, 1, 16)) then
  number = math.max(number, tonumber(ARGV[6])) + tonumber(ARGV[7]) + count
  bytes = bytes + #packed
  -- Whatever ends it shortens what is left of its output's time.
  if bit.band(flags_of(record), VOCAL) == 0 then
    record = with_flags(record, bit.bor(flags_of(record), VOCAL))
    go('HSET', base .. 't' .. sub(id, 1, 4), id, record)
  end
  call('XADD', key, format('%.0f-%.0f', number, bytes), 'c', packed)
  call('XTRIM', key, 'MINID', format('%.0f', math.max(number - ARGV[9] + 1, 0)))
  local floor, looks = bytes - ARGV[10], 0
  while floor > 0 and looks < 200 do
    local old, gone = call('XRANGE', key, '-', '+', 'COUNT', 5), {}
    for _, entry in ipairs(old) do
      if tonumber(string.match(entry[1], '%d+$')) <= floor then gone[#gone + 1] = entry[1] end
    end
    if #gone > 0 then call('XDEL', key, unpack(gone)) end
    looks = #gone < 5 and 200 or looks + 1
  end
  if bit.band(flags_of(record), AWAITED) ~= 0 then
    for name in string.gmatch(go('HGET', base .. 'n', id) or '', '%S+') do
      if sub(name, -2) == '.o' then
        go('ZADD', base .. 'i:' .. name, 0, 'o' .. id)
        go('EXPIRE', base .. 'i:' .. name, 3600)
      end
    end
  end
end
go('PEXPIRE', key, ARGV[8])
if tonumber(ARGV[11]) > 0 then go('ZADD', base .. 'W', now + ARGV[11], worker) end
return {now, format('%.0f', number), bit.band(flags_of(record), CANCEL)}
