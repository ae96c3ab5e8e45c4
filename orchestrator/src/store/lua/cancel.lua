#!lua flags=allow-oom
-- CANCEL: ends a waiting task at once; asks the worker of a running one to stop.
-- KEYS[1] {ns.p}:e      keys built inside: t<slice> r:<q> z P y U u:<type> W w:<worker> i:<worker> D<n> B X n i:<inbox> C C<n> O j:<id> l
--                       A H a:<id><n> j:<id> audit
-- ARGV: 1 id · 2 letter ‖ ending · 3 score of the note to the worker: 0, or below it the less time there is
-- Reply: 'cancelled', 'requested', 'unknown', or the letter of how it had ended before.
local id = ARGV[1]
local record = records({id})[1]
if not record then
  local _, value = find_finished(id)
  return value and letter_of(value) or 'unknown'
end
if not sound(id, record) then quarantine(id, record) return 'unknown' end
local event = {}
local outcome = call_off(id, record, ARGV[2], event, nil, ARGV[3])
announce_all(event)
return outcome
