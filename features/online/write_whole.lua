-- A user whole, if nothing at all is stored of the user, in one step of the server; a key of another type holds something
-- too.
--
-- KEYS[1]  the user's hash
-- ARGV     its fields, names and values by turns
--
-- Returns 1, or 0 where something is stored.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
