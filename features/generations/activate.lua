-- Moves the pointer to the active generation: compare and set in one step of the server.
--
-- KEYS  active, filling, previous, the record of the number, moves
-- ARGV  the number, where the pointer must stand (empty: nowhere), the move as JSON, how many moves are kept
--
-- Returns -1 where the number is not recorded, 0 where the pointer stands elsewhere, 1 when it has moved.
--
-- The first write is one that a full Redis refuses: after a DEL it would let all others through. What fills the slot of
-- the new active generation stops, be it that one or, after a rollback, another: two cannot share a slot.
local function number_of(key) return string.match(redis.call('GET', key) or '', '^%d+') or '' end
local record = redis.call('GET', KEYS[4])
if not record then return -1 end
if number_of(KEYS[1]) ~= ARGV[2] then return 0 end
if ARGV[1] ~= ARGV[2] then
  -- the number and the sha1 of its record, by which a reader knows whether it has read it
  redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. redis.sha1hex(record))
  if ARGV[2] == '' then redis.call('DEL', KEYS[3]) else redis.call('SET', KEYS[3], ARGV[2]) end
  redis.call('LPUSH', KEYS[5], ARGV[3])
  redis.call('LTRIM', KEYS[5], 0, ARGV[4] - 1)
end
local filling = tonumber(number_of(KEYS[2]))
if filling and filling % 2 == ARGV[1] % 2 then redis.call('DEL', KEYS[2]) end
return 1
