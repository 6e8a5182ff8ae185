-- Attributes of a user and the virtual behaviour made from them, if nothing at all is stored of the user, in one step of
-- the server; a key of another type holds something too.
--
-- KEYS[1]        the user's hash
-- ARGV[1]        the event time as Feast stores it
-- ARGV[2]        the attributes
-- ARGV[3]        the registration as it is stored
-- ARGV[4] to [6] vectors, dimension and generation of the virtual behaviour; none where it is not written
--
-- Returns 1, or 0 where something is stored.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if ARGV[4] then
  redis.call('HSET', KEYS[1], ATTRIBUTES, ARGV[2], ATTRIBUTES_STAMP, ARGV[1], REGISTRATION, ARGV[3],
    SLOT_STAMP, ARGV[1], VECTORS, ARGV[4], DIMENSION, ARGV[5], GENERATION, ARGV[6])
else
  redis.call('HSET', KEYS[1], ATTRIBUTES, ARGV[2], ATTRIBUTES_STAMP, ARGV[1], REGISTRATION, ARGV[3])
end
return 1
