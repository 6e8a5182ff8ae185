-- KEYS[1]: the hash of offsets; ARGV: the partition, and where its reader starts.
-- Returns what was held; the lower of both is held from now on.
local held = redis.call('HGET', KEYS[1], ARGV[1])
if not held or tonumber(held) > tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return held
