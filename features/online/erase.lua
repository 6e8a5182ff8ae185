-- A user forgotten, in one step of the server, unless a later registration stands there: see `ErasingStore.erase`. What
-- stays is a fence, which goes by itself after a while: the time of the erasure as that of the attributes and of the
-- behaviour, so that no writer finds what it had read, and its place in the order of registrations.
--
-- KEYS[1]          the user's hash
-- ARGV[1]          the event time as Feast stores it
-- ARGV[2], [3], [4]  the place in Kafka: partition, offset, timestamp; '-' for the partition where there is none
-- ARGV[5]          the digests of the erasure, each behind a space, the last that of no event
-- ARGV[6]          how many characters of digests are kept at most
-- ARGV[7]          the event time of attributes that are erased whatever it says, since they cannot be read; else empty
-- ARGV[8], [9]     the fields of the attributes and of their event time
-- ARGV[10]         the field of the registration
-- ARGV[11]         the field of the behaviour's event time
-- ARGV[12], [13]   the field of the erasure, and its value: when, epoch milliseconds
-- ARGV[14]         milliseconds for which the fence stays
-- ARGV[15]         the field of the first registration: of one who registered anew, what was before is forgotten
--
-- Returns 1; 2 where a later registration stands and knew of the erasure; 3 where it did not know.
local stored = redis.pcall('HMGET', KEYS[1], ARGV[8], ARGV[9], ARGV[10], ARGV[12], ARGV[15])
local other_type = stored.err and string.find(stored.err, 'WRONGTYPE', 1, true)
if stored.err and not other_type then return stored end
local attributes, time, mark, erased = stored[1], stored[2], stored[3] or '', tonumber(stored[4] or '') or -1
local is_known = erased >= tonumber(ARGV[13])

if attributes and time and time ~= ARGV[7] and not is_newer(ARGV[1], time) then
  if is_newer(time, ARGV[1]) or not is_later_in_place(mark, ARGV[2], ARGV[3], ARGV[4]) then
    if is_known then return 2 end
    redis.call('HSET', KEYS[1], ARGV[12], ARGV[13])
    if not (stored[5] and is_newer(stored[5], ARGV[1])) then redis.call('HSET', KEYS[1], ARGV[15], time) end
    return 3
  end
end
if is_known and not attributes then return 1 end

local digests = (string.match(mark, '^%S+ %S+ %S+( .*)') or '') .. ARGV[5]
mark = ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4] .. string.sub(digests, -tonumber(ARGV[6]))
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], ARGV[9], ARGV[1], ARGV[10], mark, ARGV[11], ARGV[1], ARGV[12], ARGV[13])
redis.call('PEXPIRE', KEYS[1], ARGV[14])
return 1
