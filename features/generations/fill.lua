-- Points to the generation that fills next.
--
-- KEYS  active, filling, previous, the record of the number
-- ARGV  the number
--
-- Returns -1 where the number is not recorded, 0 when it is done, else the active generation whose slot it would fill.
local function number_of(key) return string.match(redis.call('GET', key) or '', '^%d+') or '' end
local record = redis.call('GET', KEYS[4])
if not record then return -1 end
local active = tonumber(number_of(KEYS[1]))
if active and active ~= tonumber(ARGV[1]) and active % 2 == ARGV[1] % 2 then return active end
-- as `activate.lua` writes a pointer
redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. redis.sha1hex(record))
return 0
