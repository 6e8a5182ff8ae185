-- Virtual behaviour of a user, in one step of the server, unless its slot is as new or the attributes are other ones by
-- now than those that it was made from.
--
-- KEYS[1]          the user's hash
-- ARGV[1]          the event time as Feast stores it
-- ARGV[2]          the field of the slot's event time
-- ARGV[3]          the stored event time that is written over whatever it says, since its row cannot be read; else empty
-- ARGV[4], [5]     the fields of the attributes' event time and of their registration
-- ARGV[6]          the time of the attributes that it was made from, epoch milliseconds; '' for whichever
-- ARGV[7]          their place in Kafka as it is stored; empty where there is none
-- ARGV[8] and on   the fields to write, names and values by turns
--
-- Returns 1, 0 where the attributes are others or the user was erased, or the stored event time of the slot where that
-- is as new.
-- A key of another type holds nothing: it gives way to the hash.
local stored = redis.pcall('HMGET', KEYS[1], ARGV[2], ARGV[4], ARGV[5])
local other_type = stored.err and string.find(stored.err, 'WRONGTYPE', 1, true)
if stored.err and not other_type then return stored end

if ARGV[6] ~= '' then
  local seconds, nanos = event_time(stored[2])
  local place = string.match(stored[3] or '', '^%S+ %S+ %S+') or ''
  if place == '- 0 0' then place = '' end
  if seconds * 1000 + math.floor(nanos / 1e6) ~= tonumber(ARGV[6]) or place ~= ARGV[7] then return 0 end
elseif is_erasure(stored[3] or '') then
  return 0
end
local rotten = ARGV[3] ~= '' and ARGV[3] == stored[1]
if not rotten and not is_newer(ARGV[1], stored[1]) then return stored[1] end

if other_type then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[1], unpack(ARGV, 8))
return 1
