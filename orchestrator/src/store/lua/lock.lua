-- What a task holds under keys that only one task may hold at a time. In front of all scripts with the shared functions; in
-- STEP only where a task that ends or begins may hold something.
-- `l`: digest of a key (16 bytes) → id of its holder; id (14 bytes) → any number of (mode u8 ‖ digest) that it holds.
-- Modes: s until its first attempt is claimed · d until it ends. No lock has a time of its own: it goes with its task.
-- Keys built inside: l

-- Frees what a task holds: `at` is s when an attempt of it is claimed, d when it has ended or is gone.
local function unlock(id, at)
  local held, kept = go('HGET', base .. 'l', id) or '', ''
  for i = 1, #held - 16, 17 do
    local digest = sub(held, i + 1, i + 16)
    if at == 'd' or sub(held, i, i) == 's' then
      if go('HGET', base .. 'l', digest) == id then go('HDEL', base .. 'l', digest) end
    else
      kept = kept .. sub(held, i, i + 16)
    end
  end
  if kept ~= '' then
    if kept ~= held then go('HSET', base .. 'l', id, kept) end
  elseif held ~= '' then
    go('HDEL', base .. 'l', id)
  end
end
