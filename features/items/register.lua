-- Keeps registrations of items, each unless a later one is there, and gives each change a number of its own.
--
-- KEYS  the items (a hash), their changes (a sorted set), the number of the last change
-- ARGV  for each: the item, when it was registered (epoch milliseconds), its attributes (JSON)
-- not below the clock in microseconds: a Redis that lost its newest writes gives no number again that a reader has passed
local now = redis.call('TIME')
local last = math.max(tonumber(redis.call('GET', KEYS[3]) or 0), now[1] * 1000000 + now[2])
for at = 1, #ARGV, 3 do
  local item, at_ms, value = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 1] .. ' ' .. ARGV[at + 2]
  local stored = redis.call('HGET', KEYS[1], item)
  if stored ~= value and (not stored or tonumber(string.match(stored, '^%d+')) <= at_ms) then
    redis.call('HSET', KEYS[1], item, value)
    last = last + 1
    redis.call('ZADD', KEYS[2], string.format('%.0f', last), item)
  end
end
redis.call('SET', KEYS[3], string.format('%.0f', last))
return 0
