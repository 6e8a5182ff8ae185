-- Behaviours of a user behind those that are stored, in one step of the server, without their reader: only onto a row
-- that stands as this store left it, which its tail tells (`features.online.event_marks`), and only later ones. Of a
-- user who was erased at any time, only a reader can tell what counts.
--
-- KEYS           the user's hash, and that of offsets
-- ARGV[1]        how many they are
-- ARGV[2], [3]   the times of the first and of the last, epoch milliseconds
-- ARGV[4]        the event time as Feast stores it
-- ARGV[5] to [7] their items, actions and times, as the lists of Feast's messages hold elements
-- ARGV[8]        their digests, one behind the other
-- ARGV[9] and on partitions that they were read from, and where the store stood in each, by turns
--
-- Returns 1, or 0 where nothing was written.
local function number_at(raw, at)
  local number, scale = 0, 1
  while true do
    local byte = string.byte(raw, at)
    if not byte then return nil end
    at = at + 1
    if byte < 128 then return number + byte * scale, at end
    number, scale = number + (byte - 128) * scale, scale * 128
  end
end

local function number_as(number)
  local bytes = ''
  while number >= 128 do
    bytes = bytes .. string.char(number % 128 + 128)
    number = math.floor(number / 128)
  end
  return bytes .. string.char(number)
end

-- where what stands behind a tag and a length begins, if that is the whole rest
local function behind(raw, tag, at)
  if not at or string.sub(raw, at, at + #tag - 1) ~= tag then return nil end
  local length, start = number_at(raw, at + #tag)
  return length and start + length == #raw + 1 and start or nil
end

-- where the elements from `at` on go on without the first `count`: texts are a byte, a length and as many bytes, numbers
-- end below 128
local function without(raw, at, count, texts)
  for _ = 1, count do
    local number, after = number_at(raw, texts and at + 1 or at)
    if not number then return nil end
    at = texts and after + number or after
  end
  return at
end

local refusal = behind_offsets(9)
if refusal then return refusal end
local stored = redis.pcall('HMGET', KEYS[1], ITEMS, ACTIONS, TIMES, VERSION, STAMP, APPLIED, TAIL, ERASED)
if stored.err or stored[8] then return 0 end
local applied = stored[6] or ''
if #applied % DIGEST_BYTES ~= 0 then return 0 end
for at = 1, #ARGV[8], DIGEST_BYTES do
  local digest = string.sub(ARGV[8], at, at + DIGEST_BYTES - 1)
  local place = string.find(applied, digest, 1, true)
  while place do  -- a match across two digests is none
    if place % DIGEST_BYTES == 1 then return 0 end
    place = string.find(applied, digest, place + 1, true)
  end
end

local count, version = 0, 0
local items, actions, times, items_at, actions_at, times_at = '', '', '', 1, 1, 1
if stored[1] or stored[2] or stored[3] or stored[4] or stored[5] then
  local members, last, micros, number, sizes, stamp =
    string.match(stored[7] or '', '^(%d+) (%d+) (%d+) (%d+) (%d+ %d+ %d+) (.*)$')
  if stamp ~= stored[5] or not (stored[1] and stored[2] and stored[3]) then return 0 end
  if sizes ~= #stored[1] .. ' ' .. #stored[2] .. ' ' .. #stored[3] then return 0 end
  count, version = tonumber(members), tonumber(number)
  if version >= 1e14 or stored[4] ~= INTEGER .. number_as(version) then return 0 end
  if tonumber(ARGV[2]) <= tonumber(last) or tonumber(ARGV[3]) * 1000 <= tonumber(micros) then return 0 end
  items, actions, times = stored[1], stored[2], stored[3]
  items_at, actions_at = behind(items, TEXTS, 1), behind(actions, TEXTS, 1)
  times_at = behind(times, FIRST, behind(times, NUMBERS, 1))
  if not (items_at and actions_at and times_at) then return 0 end
end

local dropped = count + ARGV[1] - MOST
if dropped > 0 then
  if string.find(actions, PASSED_OVER, 1, true) then return 0 end  -- of a full row that goes first: for a reader
  items_at, actions_at = without(items, items_at, dropped, true), without(actions, actions_at, dropped, true)
  times_at = without(times, times_at, dropped)
  if not (items_at and actions_at and times_at) then return 0 end
  count = count - dropped
end
-- each column is laid down at once: every step of its own would copy it
local function texts_with(raw, at, more)
  return TEXTS .. number_as(#raw - at + 1 + #more) .. string.sub(raw, at) .. more
end
items, actions = texts_with(items, items_at, ARGV[5]), texts_with(actions, actions_at, ARGV[6])
local packed = #times - times_at + 1 + #ARGV[7]
local head = FIRST .. number_as(packed)
times = NUMBERS .. number_as(#head + packed) .. head .. string.sub(times, times_at) .. ARGV[7]
local tail = count + ARGV[1] .. ' ' .. ARGV[3] .. ' ' .. ARGV[3] .. '000 ' .. version + 1 .. ' '
tail = tail .. #items .. ' ' .. #actions .. ' ' .. #times .. ' ' .. ARGV[4]
redis.call('HSET', KEYS[1], ITEMS, items, ACTIONS, actions, TIMES, times, VERSION, INTEGER .. number_as(version + 1),
  STAMP, ARGV[4], APPLIED, string.sub(applied .. ARGV[8], -REMEMBERED), TAIL, tail)
return 1
