-- Attributes of a user and the virtual behaviour made from them, if nothing at all is stored of the user, in one step of
-- the server; a key of another type holds something too, and so does that of a user who was erased.
--
-- KEYS[1]        the user's hash
-- ARGV[1]        the event time as Feast stores it
-- ARGV[2]        the attributes
-- ARGV[3]        the registration as it is stored
-- ARGV[4]        the event time of the user's first registration, of this one or of an earlier one
-- ARGV[5] to [7] vectors, dimension and generation of the virtual behaviour; none where it is not written
--
-- Returns 1, or 0 where something is stored.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if ARGV[5] then
  redis.call('HSET', KEYS[1], ATTRIBUTES, ARGV[2], ATTRIBUTES_STAMP, ARGV[1], REGISTRATION, ARGV[3],
    FIRST_REGISTRATION, ARGV[4], SLOT_STAMP, ARGV[1], VECTORS, ARGV[5], DIMENSION, ARGV[6], GENERATION, ARGV[7])
else
  redis.call('HSET', KEYS[1], ATTRIBUTES, ARGV[2], ATTRIBUTES_STAMP, ARGV[1], REGISTRATION, ARGV[3],
    FIRST_REGISTRATION, ARGV[4])
end
return 1
