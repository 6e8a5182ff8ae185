-- A user whole, if nothing at all is stored of the user, in one step of the server; a key of another type holds something
-- too.
--
-- KEYS[1]  the user's hash
-- ARGV     the values of the fields NAMES, in their order; empty for one that is not written
--
-- Returns 1, or 0 where something is stored.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local fields, count = {}, 0
for place, value in ipairs(ARGV) do
  if value ~= '' then
    fields[count + 1], fields[count + 2] = NAMES[place], value
    count = count + 2
  end
end
redis.call('HSET', KEYS[1], unpack(fields))
return 1
