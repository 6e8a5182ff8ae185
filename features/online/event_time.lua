-- Seconds and nanoseconds of an event time as Feast stores it: a message of two varints. 0 and 0 for none, for what is
-- no time, and for one before 1970.
local function event_time(raw)
  local parts, place = {[8] = 0, [16] = 0}, 1
  while raw and place <= #raw do
    local field, value, scale, byte = string.byte(raw, place), 0, 1, nil
    if not parts[field] then return 0, 0 end
    repeat
      place = place + 1
      byte = string.byte(raw, place)
      if not byte then return 0, 0 end
      value, scale = value + (byte % 128) * scale, scale * 128
    until byte < 128
    parts[field], place = value, place + 1
  end
  if parts[8] >= 2 ^ 62 or parts[16] >= 1e9 then return 0, 0 end
  return parts[8], parts[16]
end

-- Whether a time is later than another: 1, -1 where it is earlier, 0 where both are one.
local function compared(seconds, nanos, other_seconds, other_nanos)
  if seconds ~= other_seconds then return seconds > other_seconds and 1 or -1 end
  if nanos ~= other_nanos then return nanos > other_nanos and 1 or -1 end
  return 0
end

-- The fields of a hash; none of a key of another type, which then gives way to the hash (the second value). The third
-- is any other refusal.
local function stored_fields(key, ...)
  local stored = redis.pcall('HMGET', key, ...)
  if not stored.err then return stored, false, nil end
  if string.find(stored.err, 'WRONGTYPE', 1, true) then return {}, true, nil end
  return nil, false, stored
end

