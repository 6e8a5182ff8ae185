-- KEYS[1]: the hash of offsets; ARGV: the partition, where it is believed to stand, and where it stands from now on.
-- Returns 1 where it did stand there; else what is held, which stays.
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held ~= ARGV[2] then
  return held
end
if ARGV[3] ~= held then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return 1
