#!lua flags=allow-oom
-- REPLAY: sends dead letters of a group anew, to that group alone.
-- Guarantee: a letter is either among the dead ones or in the stream.
-- KEYS[1] {ns.p}:e      keys built inside: d:<group>
-- ARGV: 1 group · ids of letters (1..100)
-- Reply: number of letters sent.
local letters, sent = base .. 'd:' .. ARGV[1], 0
for i = 2, #ARGV do
  local found = go('XRANGE', letters, ARGV[i], ARGV[i])[1]
  if found then
    local fields = {}
    for x = 1, #found[2], 2 do fields[found[2][x]] = found[2][x + 1] end
    go('XADD', base .. 'e', 'MAXLEN', '~', EVENTS_MAX, '*', 'R', char(#ARGV[1]) .. ARGV[1] .. (fields.v or ''))
    go('XDEL', letters, ARGV[i])
    sent = sent + 1
  end
end
return sent
