-- Fields of a user whose key holds something that is no hash, which gives way in the same step of the server.
--
-- KEYS[1]         the user's hash
-- ARGV[1] and on  the fields to write, names and values by turns
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
