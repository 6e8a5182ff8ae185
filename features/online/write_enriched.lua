-- Attributes of a user and the virtual behaviour made from them, in one step of the server, unless the registration does
-- not replace the stored one: `AttributesVersion.replaces` of foretaste.kernel.users, told here by what is stored now.
--
-- KEYS[1]          the user's hash
-- ARGV[1]          the event time as Feast stores it
-- ARGV[2], [3], [4]  the place in Kafka: partition, offset, timestamp; '-' for the partition where there is none
-- ARGV[5]          the digests of the registration and of those before it, apart by spaces, its own last; may be empty
-- ARGV[6]          how many digests are remembered at most
-- ARGV[7]          the stored event time that is written over whatever it says, since its row cannot be read; else empty
-- ARGV[8], [9]     the fields of the attributes and of their event time
-- ARGV[10]         the field of the registration
-- ARGV[11], [12]   the fields of the event times of both slots of virtual behaviour
-- ARGV[13]         which of the two is written: 1, 2, or 0 for none
-- ARGV[14]         the attributes
-- ARGV[15] and on  the fields of the virtual behaviour, names and values by turns
--
-- Returns 1, or the stored event time of the attributes where nothing was written.
local stored, other_type, refusal = stored_fields(KEYS[1], ARGV[9], ARGV[10], ARGV[11], ARGV[12])
if refusal then return refusal end

local seconds, nanos = event_time(ARGV[1])
local mark = stored[2] or ''
local stored_seconds, stored_nanos = event_time(stored[1])
local later = stored_seconds + stored_nanos == 0 and 1 or compared(seconds, nanos, stored_seconds, stored_nanos)
if later == 0 and ARGV[2] ~= '-' then
  local partition, offset, timestamp = string.match(mark, '^(%S+) (%d+) (%-?%d+)')
  if not partition or partition == '-' then
    later = 1
  elseif partition == ARGV[2] then
    later = tonumber(ARGV[3]) > tonumber(offset) and 1 or -1
  elseif timestamp ~= ARGV[4] then
    later = tonumber(ARGV[4]) > tonumber(timestamp) and 1 or -1
  else
    later = ARGV[2] > partition and 1 or -1
  end
end
local own = string.match(ARGV[5], '%S+$')
local known = own and string.find(mark, ' ' .. own, 1, true)
local rotten = ARGV[7] ~= '' and ARGV[7] == stored[1]
if not rotten and (later <= 0 or known) then return stored[1] or '' end

local digests, kept = {}, {}
for digest in string.gmatch(string.gsub(mark, '^%S+ %S+ %S+', '') .. ' ' .. ARGV[5], '%S+') do
  if not kept[digest] then
    kept[digest] = true
    table.insert(digests, digest)
  end
end
local first = math.max(1, #digests - tonumber(ARGV[6]) + 1)
local place = ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4]
local fields = {ARGV[8], ARGV[14], ARGV[9], ARGV[1], ARGV[10], table.concat({place, unpack(digests, first)}, ' ')}
local stale = {}
for slot = 1, 2 do
  local stamp = stored[2 + slot]
  local as_new = stamp and compared(seconds, nanos, event_time(stamp)) <= 0
  if tostring(slot) == ARGV[13] then
    table.insert(fields, ARGV[10 + slot])
    table.insert(fields, as_new and stamp or ARGV[1])
  elseif as_new then
    table.insert(stale, ARGV[10 + slot])
  end
end
for part = 15, #ARGV do table.insert(fields, ARGV[part]) end

if other_type then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], unpack(fields))
if #stale > 0 then redis.call('HDEL', KEYS[1], unpack(stale)) end
return 1
