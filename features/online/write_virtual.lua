-- Virtual behaviour of a user, in one step of the server, unless its slot is as new or the attributes are other ones by
-- now than those that it was made from.
--
-- KEYS[1]          the user's hash
-- ARGV[1]          the event time as Feast stores it
-- ARGV[2]          the stored event time that is written over without a look at what it says, since its row was read and is
--                  older, or cannot be read; empty for none
-- ARGV[3]          the event time of the attributes that it was made from, of whole milliseconds; '' for none
-- ARGV[4]          their place in Kafka as it is stored, empty where there is none; 'any' where they do not matter
-- ARGV[5] to [7]   vectors, dimension and generation
--
-- Returns 1, 0 where the attributes are others or the user was erased, or the stored event time of the slot where that
-- is as new.
-- A key of another type holds nothing: it gives way to the hash.
local stored = redis.pcall('HMGET', KEYS[1], SLOT_STAMP, ATTRIBUTES_STAMP, REGISTRATION)
local other_type = stored.err and string.find(stored.err, 'WRONGTYPE', 1, true)
if stored.err and not other_type then return stored end

if is_erasure(stored[3] or '') then return 0 end
if ARGV[4] ~= 'any' then
  local place = string.match(stored[3] or '', '^%S+ %S+ %S+') or ''
  if place == '- 0 0' then place = '' end
  local is_same = (stored[2] or '') == ARGV[3]
  if not is_same then
    local seconds, nanos = event_time(stored[2])
    local read_seconds, read_nanos = event_time(ARGV[3])
    is_same = seconds == read_seconds and math.floor(nanos / 1e6) == math.floor(read_nanos / 1e6)
  end
  if not is_same or place ~= ARGV[4] then return 0 end
end
local is_known = ARGV[2] ~= '' and ARGV[2] == stored[1]
if not is_known and not is_newer(ARGV[1], stored[1]) then return stored[1] end

if other_type then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], SLOT_STAMP, ARGV[1], VECTORS, ARGV[5], DIMENSION, ARGV[6], GENERATION, ARGV[7])
return 1
