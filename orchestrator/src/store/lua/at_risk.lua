#!lua flags=allow-oom
-- AT RISK: notes that a promise is likely to be broken, once for each task.
-- KEYS[1] {ns.p}:e      keys built inside: C t<slice>
-- ARGV: 1.. n (1..100) × (id, forecast as JSON)
-- Reply: number of tasks that nobody had told of before.
local told, forecasts = {}, {}
for i = 1, #ARGV, 2 do
  local id = ARGV[i]
  local state = go('HGET', base .. 'C', id)
  if whole(state) and bit.band(byte(state), 4 + 8) == 0 and records({id})[1] then
    go('HSET', base .. 'C', id, char(bit.bor(byte(state), 8)) .. sub(state, 2))
    told[#told + 1] = id .. 'r'
    forecasts[#forecasts + 1] = ARGV[i + 1]
  end
end
-- The forecasts lie beside their elements, one a line.
announce({'V', concat(told), 'f', concat(forecasts, '\n')})
return #told
