-- Refuses where the store stands behind what its client was told, so that it lost writes since: the hash of offsets lies at
-- KEYS[2], and ARGV holds partitions and the least offset of each by turns, from `first` on. Nil where nothing is amiss.
local function behind_offsets(first)
  for at = first, #ARGV, 2 do
    local held = redis.call('HGET', KEYS[2], ARGV[at])
    if not held or tonumber(held) < tonumber(ARGV[at + 1]) then
      local stands = held and ' stands at ' .. held or ' stands nowhere'
      return redis.error_reply('BEHIND ' .. ARGV[at] .. stands .. ' and stood at ' .. ARGV[at + 1] .. ': writes were lost')
    end
  end
end

