-- Attributes of a user and the virtual behaviour made from them, in one step of the server, unless the registration does
-- not replace the stored one: `AttributesVersion.replaces` of foretaste.kernel.users, told here by what is stored now.
--
-- KEYS[1]          the user's hash
-- ARGV[1]          the event time as Feast stores it
-- ARGV[2], [3], [4]  the place in Kafka: partition, offset, timestamp; '-' for the partition where there is none
-- ARGV[5]          the digests of the registration and of those before it, of one length, each behind a space, its own
--                  last; may be empty
-- ARGV[6]          how many characters of them are kept at most
-- ARGV[7]          the stored event time that is written over whatever it says, since its row cannot be read; else empty
-- ARGV[8], [9]     the fields of the attributes and of their event time
-- ARGV[10]         the field of the registration
-- ARGV[11], [12]   the fields of the event times of both slots of virtual behaviour, the one that is written first
-- ARGV[13]         the attributes
-- ARGV[14] and on  the fields of the virtual behaviour, names and values by turns; none where it is not written
--
-- Returns 1, or the stored event time of the attributes where these stay: all that is written then is that the
-- registration came, `AttributesVersion.outdoing`.
-- A key of another type holds nothing: it gives way to the hash.
local stored = redis.pcall('HMGET', KEYS[1], ARGV[9], ARGV[10], ARGV[11], ARGV[12])
local other_type = stored.err and string.find(stored.err, 'WRONGTYPE', 1, true)
if stored.err and not other_type then return stored end
local time, mark = stored[1], stored[2] or ''

if time and not (ARGV[7] ~= '' and ARGV[7] == time) then
  local is_known = ARGV[5] ~= '' and string.find(mark, string.match(ARGV[5], ' %S+$'), 1, true)
  if is_known then return time end
  if not is_newer(ARGV[1], time) and (is_newer(time, ARGV[1]) or not is_later_in_place(mark, ARGV[2], ARGV[3], ARGV[4])) then
    local remembering = outdoing(mark, ARGV[5], ARGV[6])
    if remembering then redis.call('HSET', KEYS[1], ARGV[10], remembering) end
    return time
  end
end

-- what stands in the place of an erased user goes by itself after a while; this user is back
if is_erasure(mark) then redis.call('PERSIST', KEYS[1]) end

local digests = string.match(mark, '^%S+ %S+ %S+( .*)') or ''
if #ARGV[5] > 17 or ARGV[7] ~= '' then  -- others than its own may be remembered already
  for digest in string.gmatch(ARGV[5], ' %x+') do digests = string.gsub(digests, digest, '') end
end
digests = digests .. ARGV[5]
mark = ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4] .. string.sub(digests, -tonumber(ARGV[6]))
if other_type then redis.call('DEL', KEYS[1]) end
-- no virtual behaviour but its own may pass for that of these attributes by its time
local first_stale = 1
if ARGV[14] then
  first_stale = 2
  local stamp = is_newer(ARGV[1], stored[3]) and ARGV[1] or stored[3]
  redis.call('HSET', KEYS[1], ARGV[8], ARGV[13], ARGV[9], ARGV[1], ARGV[10], mark, ARGV[11], stamp, unpack(ARGV, 14))
else
  redis.call('HSET', KEYS[1], ARGV[8], ARGV[13], ARGV[9], ARGV[1], ARGV[10], mark)
end
for slot = first_stale, 2 do
  local stamp = stored[2 + slot]
  if stamp and not is_newer(ARGV[1], stamp) then redis.call('HDEL', KEYS[1], ARGV[10 + slot]) end
end
return 1
