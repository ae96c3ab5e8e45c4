#!lua flags=allow-oom
-- CONSUME: one consumer's turn in a group: notes what became of events that it had, and reads the next ones.
-- Guarantee: only the consumer that has the group's seat is served; it is taken by whoever comes first when nobody has it,
-- and lost when it is not renewed in time. So entries are read, retried and let go of in one order, by one process.
-- A turn that is sent twice notes the same twice and reads on.
-- KEYS[1] {ns.p}:e      keys built inside: G:<group> m:<group> d:<group>
-- ARGV: 1 group · 2 consumer · 3 ms that the seat is kept, 0 gives it up · 4 '1' = it has the seat, as far as it knows
--       5 most entries to read (0..100) · 6 '' = new ones, else those pending from this id on, whoever had them
--       7 where the group begins if it is new · 8 most dead letters kept · 9 number of entries that are done with · their ids
--       n × (entry, index u16 ‖ failures u8 ‖ crashes u8, event of a dead letter or '', its error)
-- Reply: {'mine', next id among the pending ones or '0-0', entries, marks of each pending entry, 1 = somebody died with them}
--         or {'taken', ms} or {'lost', 0}
-- `m:` holds, by entry, what is known of single events in it: items of 4 bytes, as above; failures 255 = done with. And
-- under \0by the last consumer with the seat, '' when it left in order.
local group, consumer, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local seat, marks, letters, events = base .. 'G:' .. group, base .. 'm:' .. group, base .. 'd:' .. group, base .. 'e'
local holder = go('GET', seat)
if ARGV[4] == '1' and holder ~= consumer then return {'lost', 0} end
if holder and holder ~= consumer then return {'taken', call('PTTL', seat)} end
if lease > 0 then call('SET', seat, consumer, 'PX', lease) end
-- Whether somebody else died with what is pending: nobody did who left in order, or who lost his seat and takes it again.
local before = go('HGET', marks, '\0by')
local died = before and before ~= '' and before ~= consumer
if before ~= consumer then call('HSET', marks, '\0by', consumer) end

-- Runs a command on the stream; a group that is not there is made.
local function on_group(...)
  for _ = 1, 3 do
    local reply = redis.pcall(...)
    if not (type(reply) == 'table' and reply.err) then return reply end
    if string.find(reply.err, 'NOGROUP', 1, true) or string.find(reply.err, 'no such key', 1, true) then
      call('XGROUP', 'CREATE', events, group, ARGV[7], 'MKSTREAM')
    elseif string.find(reply.err, 'WRONGTYPE', 1, true) then
      set_aside(events)
    else
      error(reply)
    end
  end
end

local done = tonumber(ARGV[9])
for i = 10 + done, #ARGV, 4 do
  local entry, item, event = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local known = go('HGET', marks, entry) or ''
  local at = #known + 1
  for x = 1, #known, 4 do
    if sub(known, x, x + 1) == sub(item, 1, 2) then at = x end
  end
  -- What is done with stays so: an earlier copy of this call may have been heard.
  if byte(known, at + 2) ~= 255 then
    if event ~= '' and #on_group('XPENDING', events, group, entry, entry, 1) > 0 then
      go('XADD', letters, 'MAXLEN', ARGV[8], '*', 'v', event, 'e', ARGV[i + 3], 'a', item)
    end
    go('HSET', marks, entry, sub(known, 1, at - 1) .. item .. sub(known, at + 4))
  end
end
if done > 0 then
  on_group('XACK', events, group, unpack(ARGV, 10, 9 + done))
  go('HDEL', marks, unpack(ARGV, 10, 9 + done))
end
if lease == 0 then
  call('DEL', seat)
  call('HSET', marks, '\0by', '')
  return {'mine', '0-0', {}, {}, 0}
end

local most = tonumber(ARGV[5])
if most == 0 then return {'mine', ARGV[6] == '' and '0-0' or ARGV[6], {}, {}, died and 1 or 0} end
if ARGV[6] == '' then
  local read = on_group('XREADGROUP', 'GROUP', group, consumer, 'COUNT', most, 'STREAMS', events, '>')
  return {'mine', '0-0', read and read[1] and read[1][2] or {}, {}, 0}
end
local claimed = on_group('XAUTOCLAIM', events, group, consumer, 0, ARGV[6], 'COUNT', most)
local found, known = {}, {}
for _, entry in ipairs(claimed[2]) do
  -- Before 7.0 an entry that was trimmed is told as nothing.
  if entry and entry[2] then
    found[#found + 1] = entry
    known[#found] = go('HGET', marks, entry[1]) or ''
  end
end
-- Entries that were dropped while they were pending: nothing is left to handle.
if claimed[3] and #claimed[3] > 0 then go('HDEL', marks, unpack(claimed[3])) end
if claimed[1] == '0-0' then
  -- Consumers that hold nothing have gone; one that holds something is never dropped.
  for _, one in ipairs(on_group('XINFO', 'CONSUMERS', events, group)) do
    local fields = {}
    for i = 1, #one, 2 do fields[one[i]] = one[i + 1] end
    if fields.name ~= consumer and fields.pending == 0 then call('XGROUP', 'DELCONSUMER', events, group, fields.name) end
  end
end
return {'mine', claimed[1], found, known, died and 1 or 0}
