-- For scripts that give tasks a place: taking what only one task may hold at a time. Layout and freeing: lock.lua.
-- Keys built inside: l t<slice>

-- The live task that holds a key, or nothing. What a task that is gone has left behind is cleared away.
local function holder_of(digest)
  local id = go('HGET', base .. 'l', digest)
  if not id then return end
  if sound(id, records({id})[1]) then return id end
  unlock(id, 'd')
  go('HDEL', base .. 'l', digest)
end

-- Gives a key that nobody holds to a task.
local function lock(id, mode, digest)
  go('HSET', base .. 'l', digest, id, id, (go('HGET', base .. 'l', id) or '') .. mode .. digest)
end
