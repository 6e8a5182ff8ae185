-- One user's behaviour in place of the one that it was made from; in one step of the server, so that no other writer
-- comes between comparing and writing.
--
-- KEYS            the user's hash, and that of offsets
-- ARGV[1], [2]    the fields of the version and of the event time
-- ARGV[3], [4]    their values as they were read, empty where there was none
-- ARGV[5]         where in ARGV the fields end
-- ARGV[6] and on  the fields to write, names and values by turns; behind them partitions that the behaviour was read from,
--                 and where the store stood in each, by turns
--
-- Returns 1, or the two values that are stored where they are others: nothing was written then.
-- A key of another type holds no version: it gives way to the hash.
local refusal = behind_offsets(ARGV[5] + 1)
if refusal then return refusal end
local stored = redis.pcall('HMGET', KEYS[1], ARGV[1], ARGV[2])
local other_type = stored.err and string.find(stored.err, 'WRONGTYPE', 1, true)
if stored.err and not other_type then return stored end
local version, time = stored[1] or '', stored[2] or ''
if version ~= ARGV[3] or time ~= ARGV[4] then return {version, time} end
if other_type then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], unpack(ARGV, 6, ARGV[5]))
return 1
