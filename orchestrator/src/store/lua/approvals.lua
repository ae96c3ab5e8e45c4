#!lua flags=allow-oom
-- APPROVALS: one approval, or a page of the pending or the decided ones, newest first.
-- KEYS[1] {ns.p}:e      keys built inside: A H a:<id><n>
-- ARGV: 1 'A' pending, 'H' decided, or '' for one · 2 id ‖ number, or how many to pass over · 3 most (1..1000)
-- Reply: {approvals there are, then for each: id ‖ number, its fields}
local members, total = {ARGV[2]}, 1
if ARGV[1] ~= '' then
  total = go('ZCARD', base .. ARGV[1])
  members = go('ZREVRANGE', base .. ARGV[1], tonumber(ARGV[2]), ARGV[2] + ARGV[3] - 1)
end
local reply = {total}
for _, member in ipairs(members) do
  local fields = go('HGETALL', base .. 'a:' .. member)
  if #fields > 0 then
    reply[#reply + 1] = member
    reply[#reply + 1] = fields
  end
end
return reply
