-- A user forgotten, in one step of the server, unless a later registration stands there, or the erasure was carried out
-- before: see `ErasingStore.erase`. What stays is a fence, which goes by itself after a while: the time of the erasure
-- stands as that of the attributes and of the behaviour, so that a writer that had read the user before is refused, and
-- in the registration's field stand its place in Kafka and its digest.
--
-- KEYS[1]          the user's hash
-- ARGV[1]          the event time as Feast stores it
-- ARGV[2], [3], [4]  the place in Kafka: partition, offset, timestamp; '-' for the partition where there is none
-- ARGV[5]          the digests of the erasure and of those before it, each behind a space, its own last; behind them 16
--                  zeros, which mark an erasure
-- ARGV[6]          how many characters of digests are kept at most
-- ARGV[7]          the event time of attributes that are erased whatever it says, since they cannot be read; else empty
-- ARGV[8], [9]     the fields of the attributes and of their event time
-- ARGV[10]         the field of the registration
-- ARGV[11]         the field of the behaviour's event time
-- ARGV[12], [13]   the field of the erasure, and its value: when, epoch milliseconds
-- ARGV[14]         milliseconds for which the fence stays
-- ARGV[15]         the field of the first registration: of one who registered anew, what was before is forgotten
--
-- Returns 1 where no attributes stand any more; 2 where a later registration stands, and what is stored told of the
-- erasure, or of a later one, already; 3 where it did not.
local stored = redis.pcall('HMGET', KEYS[1], ARGV[8], ARGV[9], ARGV[10], ARGV[12], ARGV[15])
local other_type = stored.err and string.find(stored.err, 'WRONGTYPE', 1, true)
if stored.err and not other_type then return stored end
local attributes, time, mark, erased = stored[1], stored[2], stored[3] or '', tonumber(stored[4] or '') or -1
local is_damaged = attributes and time and time == ARGV[7]

-- carried out before, under this time or another: nothing changes
local own = string.match(ARGV[5], '( %x+) %x+$')
if own and not is_damaged and string.find(mark, own, 1, true) then return attributes and 2 or 1 end

local is_known = erased >= tonumber(ARGV[13])
local is_outdone = is_known
if attributes then
  is_outdone = time and not is_damaged and not is_newer(ARGV[1], time)
    and (is_newer(time, ARGV[1]) or not is_later_in_place(mark, ARGV[2], ARGV[3], ARGV[4]))
end
if is_outdone then
  local remembering = outdoing(mark, string.sub(ARGV[5], 1, -18), ARGV[6])
  if remembering then redis.call('HSET', KEYS[1], ARGV[10], remembering) end
  if not attributes then return 1 end
  if is_known then return 2 end
  redis.call('HSET', KEYS[1], ARGV[12], ARGV[13])
  if not (stored[5] and is_newer(stored[5], ARGV[1])) then redis.call('HSET', KEYS[1], ARGV[15], time) end
  return 3
end

local digests = string.match(mark, '^%S+ %S+ %S+( .*)') or ''
for digest in string.gmatch(ARGV[5], ' %x+') do digests = string.gsub(digests, digest, '') end
mark = ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4] .. string.sub(digests .. ARGV[5], -tonumber(ARGV[6]))
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], ARGV[9], ARGV[1], ARGV[10], mark, ARGV[11], ARGV[1], ARGV[12], ARGV[13])
redis.call('PEXPIRE', KEYS[1], ARGV[14])
return 1
