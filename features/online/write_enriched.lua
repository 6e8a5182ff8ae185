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
-- ARGV[13], [14]   the field of the first registration, and the event time of one before this; empty where none is known
-- ARGV[15]         the attributes
-- ARGV[16] and on  the fields of the virtual behaviour, names and values by turns; none where it is not written
--
-- Returns 1, or the stored event time of the attributes where these stay: all that is written then is that the
-- registration came, `AttributesVersion.outdoing`, and that it was the first one.
-- A key of another type holds nothing: it gives way to the hash.
local stored = redis.pcall('HMGET', KEYS[1], ARGV[9], ARGV[10], ARGV[11], ARGV[12], ARGV[13], ERASED)
local other_type = stored.err and string.find(stored.err, 'WRONGTYPE', 1, true)
if stored.err and not other_type then return stored end
local time, mark, erased = stored[1], stored[2] or '', tonumber(stored[6] or '') or -1

-- whether a first registration of this time counts: the user was not erased since
local function is_since_erasure(raw)
  local seconds, nanos = event_time(raw)
  return seconds + nanos > 0 and seconds * 1000 + math.floor(nanos / 1e6) > erased
end

if time and not (ARGV[7] ~= '' and ARGV[7] == time) then
  local is_known = ARGV[5] ~= '' and string.find(mark, string.match(ARGV[5], ' %S+$'), 1, true)
  local is_later = is_newer(ARGV[1], time)
    or (not is_newer(time, ARGV[1]) and is_later_in_place(mark, ARGV[2], ARGV[3], ARGV[4]))
  if is_known or not is_later then
    local remembering = not is_known and outdoing(mark, ARGV[5], ARGV[6])
    if remembering then redis.call('HSET', KEYS[1], ARGV[10], remembering) end
    -- of a registration that came before, its own time is not taken anew
    local first = ARGV[14] ~= '' and ARGV[14] or not is_known and ARGV[1]
    if first and not is_erasure(mark) and is_newer(stored[5] or time, first) and is_since_erasure(first) then
      redis.call('HSET', KEYS[1], ARGV[13], first)
    end
    return time
  end
end

-- the user registered first with the earliest of this registration and those before it, of which an erasure is none
local first = ARGV[1]
if ARGV[14] ~= '' and (other_type or is_since_erasure(ARGV[14])) then first = ARGV[14] end
local earlier = stored[5]
if earlier and not is_since_erasure(earlier) then earlier = nil end  -- left by an eraser that does not know the field
if not earlier and time ~= ARGV[7] and not is_erasure(mark) then earlier = time end
if earlier then
  local seconds, nanos = event_time(earlier)
  if seconds + nanos > 0 and is_newer(first, earlier) then first = earlier end
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
if ARGV[16] then
  first_stale = 2
  local stamp = is_newer(ARGV[1], stored[3]) and ARGV[1] or stored[3]
  redis.call('HSET', KEYS[1], ARGV[8], ARGV[15], ARGV[9], ARGV[1], ARGV[10], mark, ARGV[13], first,
    ARGV[11], stamp, unpack(ARGV, 16))
else
  redis.call('HSET', KEYS[1], ARGV[8], ARGV[15], ARGV[9], ARGV[1], ARGV[10], mark, ARGV[13], first)
end
for slot = first_stale, 2 do
  local stamp = stored[2 + slot]
  if stamp and not is_newer(ARGV[1], stamp) then redis.call('HDEL', KEYS[1], ARGV[10 + slot]) end
end
return 1
