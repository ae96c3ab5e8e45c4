#!lua flags=allow-oom
-- REORDER: rewrites the scores of one queue or shelf, after the distance between two priorities was changed. An old score with
-- aging lies below 2^42, one without it above, but for P0, whose scores are the same; so what is done once is not done again.
-- Guarantee: each place keeps the time that it came at; whoever claims meanwhile finds each task once.
-- KEYS[1] {ns.p}:e      keys built inside: r:<q> u:<type> t<slice>
-- ARGV: 1 'r:' or 'u:' ‖ name · 2 distance of the old scores, or '' for those without aging · 3 distance of the new ones, '' as well
--       4 score to go on from · 5 how many with that score to skip · 6 most tasks to look at (1..500)
-- Reply: {tasks looked at, rewritten, score to go on from, how many with that score to skip}; the key is done when fewer
--        were looked at than asked for and the third is ''.
local key, old, new = base .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local from, skip, room = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
if not old then
  -- The score itself tells the priority.
  local found, changes = go('ZRANGEBYSCORE', key, STRICT, '+inf', 'WITHSCORES', 'LIMIT', 0, room), {}
  for i = 1, #found, 2 do
    local score = tonumber(found[i + 1])
    changes[i], changes[i + 1] = format('%.0f', math.floor(score / STRICT) * new + score % STRICT), found[i]
  end
  if #changes > 0 then go('ZADD', key, 'XX', unpack(changes)) end
  return {#found / 2, #found / 2, #found / 2 == room and '0' or '', 0}
end
local found = go('ZRANGEBYSCORE', key, from, format('(%.0f', STRICT), 'WITHSCORES', 'LIMIT', skip, room)
local looked, rewritten, bytes = 0, 0, 0
-- One at a time: a record may have two megabytes.
while looked < #found / 2 and bytes < 4194304 do
  local id, score = found[2 * looked + 1], tonumber(found[2 * looked + 2])
  local record = records({id})[1]
  looked = looked + 1
  bytes = bytes + (record and #record or 0)
  local priority = sound(id, record) and byte(record, 13) or 0
  if priority > 0 then
    go('ZADD', key, 'XX', format('%.0f', priority * STRICT + score - priority * old), id)
    rewritten = rewritten + 1
  elseif score == tonumber(from) then
    skip = skip + 1
  else
    from, skip = format('%.0f', score), 1
  end
end
return {looked, rewritten, (looked < #found / 2 or looked == room) and from or '', skip}
