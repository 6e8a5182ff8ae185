-- The items that were changed after a number, in the order of their changes.
--
-- KEYS  the items (a hash), their changes (a sorted set)
-- ARGV  the number, how many items at most
--
-- Returns the item, what is kept of it and the number of its change, for each.
local changed = redis.call('ZRANGE', KEYS[2], '(' .. ARGV[1], '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[2], 'WITHSCORES')
local found = {}
for at = 1, #changed, 2 do
  found[#found + 1] = changed[at]
  found[#found + 1] = redis.call('HGET', KEYS[1], changed[at])
  found[#found + 1] = changed[at + 1]
end
return found
