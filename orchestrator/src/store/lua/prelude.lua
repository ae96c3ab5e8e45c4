-- In front of every script (behind its first line). Reads the time once, names the bounds, and heals wrong types.
-- Keys built inside, all under the tag of KEYS[1] = {ns.p}:e  →  base = {ns.p}:
local base = string.sub(KEYS[1], 1, -2)
local sub, byte, char, pack, unpack_bytes = string.sub, string.byte, string.char, struct.pack, struct.unpack
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local CLASS = 4398046511104           -- 2^42: distance between two priorities in a score
local BUCKET = 14400000               -- 4 hours: width of a bucket of finished tasks
local RETENTION = {{retention_ms}}    -- how long finished tasks are kept
local DEAD_RETENTION = {{dead_retention_ms}}
local DEAD_MAX = {{dead_max}}
local EVENTS_MAX = {{events_max}}
local CANCEL, SHELVED, AWAITED = 1, 128, 256

-- Runs a command. A key of the wrong type is set aside as bad:<key>, noted in Q, and the command runs on a clean key:
-- so no poke from outside can stop a script between two of its writes, or hold up a queue.
local function go(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) == 'table' and reply.err then
    if not string.find(reply.err, 'WRONGTYPE', 1, true) then error(reply) end
    redis.call('RENAME', key, base .. 'bad:' .. sub(key, #base + 1))
    redis.pcall('LPUSH', base .. 'Q', 'key ' .. sub(key, #base + 1))
    redis.pcall('LTRIM', base .. 'Q', 0, 999)
    return redis.call(command, key, ...)
  end
  return reply
end

-- Runs fn(slice's key, i, j) for each run ids[i..j] of one slice.
local function by_slice(ids, fn)
  local i, n = 1, #ids
  while i <= n do
    local slice, j = sub(ids[i], 1, 4), i
    while j < n and sub(ids[j + 1], 1, 4) == slice do j = j + 1 end
    fn(base .. 't' .. slice, i, j)
    i = j + 1
  end
end

-- The records of ids, false where there is none.
local function records(ids)
  local found = {}
  by_slice(ids, function(key, i, j)
    local part = go('HMGET', key, unpack(ids, i, j))
    for x = i, j do found[x] = part[x - i + 1] end
  end)
  return found
end

-- One packed entry; fields are name, value, name, value ...
local function announce(fields)
  if #fields > 0 then go('XADD', base .. 'e', 'MAXLEN', '~', EVENTS_MAX, '*', unpack(fields)) end
end

-- Whether a record can be worked with at all.
local function sound(id, record)
  return record and #id == 14 and byte(record) == 1 and #record > 16 and #record > 16 + byte(record, 16)
end

-- Milliseconds until the next timer or bucket is due; -1 = nothing is.
local function next_due()
  local due
  for _, key in ipairs({'z', 'B'}) do
    local head = go('ZRANGE', base .. key, 0, 0, 'WITHSCORES')
    if head[2] and (not due or tonumber(head[2]) < due) then due = tonumber(head[2]) end
  end
  return due and math.max(0, due - now) or -1
end
