#!lua flags=allow-oom
-- LIMIT: admits a request, unless as many as may be were admitted within the last 60 s. One that is refused leaves no trace.
-- The list has the instant of each request that was admitted, in microseconds of this server, oldest first.
-- KEYS[1] {ns.p}:e      keys built inside: L:<endpoint> <address> bad:<key>
-- ARGV: 1 endpoint, a space, address · 2 how many may be
-- Reply: {admitted 0/1, how many more may be now, Unix second when there is a place more, seconds until then}
local WINDOW = 60000000
local name, limit, us = 'L:' .. ARGV[1], tonumber(ARGV[2]), clock[1] * 1000000 + clock[2]
local key = base .. name

-- What is farther ahead than a window was admitted before the clock was set back.
local function counts(at)
  at = tonumber(at)
  return at and at > us - WINDOW and at <= us + WINDOW
end

local oldest = redis.pcall('LINDEX', key, 0)
if type(oldest) == 'table' then
  call('RENAME', key, base .. 'bad:' .. name)
  oldest = false
end
while oldest and not counts(oldest) do
  call('LPOP', key)
  oldest = call('LINDEX', key, 0)
end
local count = oldest and call('LLEN', key) or 0
local admitted = count < limit
if admitted then
  count = call('RPUSH', key, format('%.0f', us))
  -- A second more, so that the key never goes before what it counts.
  call('PEXPIRE', key, WINDOW / 1000 + 1000)
else
  -- The limit may have been higher a moment ago: more than one has to leave.
  oldest = call('LINDEX', key, count - limit)
end
local free = (tonumber(oldest) or us) + WINDOW
return {admitted and 1 or 0, math.max(0, limit - count), math.ceil(free / 1000000), math.ceil((free - us) / 1000000)}
