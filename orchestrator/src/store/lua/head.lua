-- In front of every script (behind its first line). Reads the time once and names the bounds.
-- Keys built inside, all under the tag of KEYS[1] = {ns.p}:e  →  base = {ns.p}:
local base = string.sub(KEYS[1], 1, -2)
local call, sub, byte, char, format, concat = redis.call, string.sub, string.byte, string.char, string.format, table.concat
local pack, unpack_bytes = struct.pack, struct.unpack
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local CLASS = {{class}}               -- distance between two priorities in a score: 2^42, more than any time, or with aging the head start in ms
local BUCKET = 14400000               -- 4 hours: width of a bucket of finished tasks
local RETENTION = {{retention_ms}}    -- how long finished tasks are kept
local DEAD_RETENTION = {{dead_retention_ms}}
local DEAD_SHIFT = DEAD_RETENTION - RETENTION   -- dead letters go this far ahead, to the last bucket that covers them
local DEAD_MAX = {{dead_max}}
-- Value of a bucket's first field, ''. It is longer than a listpack allows: from the start the bucket is a real
-- hashtable, whose writes cost the same at any size.
local FIRST = '.................................................................'
local EVENTS_MAX = {{events_max}}
local HISTORY_TTL, HISTORY_MAX = {{history_ttl_ms}}, {{history_max}}   -- of decided approvals
local AUDIT_MAX = {{audit_max}}
local IDEMPOTENCY_TTL = {{idempotency_ms}}   -- how long a key stands for what was made under it
-- Flags: asked to stop · waits for a person, for an instant · has not passed its gate · has a journal, a clock · the instant
-- is the end of a wait for an event · on the shelf · somebody waits for its end · has passed its gate · tells no events · begins
-- no attempt after an instant · holds a key alone · a tick of its schedule may wait for its end · has put something out.
local CANCEL, ON_APPROVAL, ON_TIMER, GATED, JOURNAL, CLOCKED, ON_EVENT, SHELVED = 1, 2, 4, 8, 16, 32, 64, 128
local AWAITED, PASSED, QUIET, EXPIRES, UNIQUE, FOLLOWED, VOCAL = 256, 512, 1024, 2048, 4096, 8192, 16384
-- How a task ends of which no attempt was begun in time: letter ‖ ending, {r = 'expired'}. Its timer `x` lies so far ahead
-- while the task goes on with what it had begun in time.
local EXPIRED, FAR = 'f\129\161r\167expired', 1125899906842624
