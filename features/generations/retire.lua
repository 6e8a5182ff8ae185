-- Forgets a generation that is not in use.
--
-- KEYS  active, filling, previous, the record of the number, its popularity, the numbers that were retired,
--       its most popular items
-- ARGV  the number
--
-- Returns nothing when it is done; else -1 for one that is not recorded, or the active, filling and previous numbers.
local function number_of(key) return string.match(redis.call('GET', key) or '', '^%d+') or '' end
if redis.call('EXISTS', KEYS[4]) == 0 then return {'-1'} end
local used = {number_of(KEYS[1]), number_of(KEYS[2]), number_of(KEYS[3])}
for _, number in ipairs(used) do if number == ARGV[1] then return used end end
redis.call('ZADD', KEYS[6], ARGV[1], ARGV[1])
redis.call('DEL', KEYS[4], KEYS[5], KEYS[7])
return {}
