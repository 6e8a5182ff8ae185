-- Seconds and nanoseconds of an event time as Feast stores it: a message of two varints. 0 and 0 for none, for what is
-- no time, and for one before 1970.
local function event_time(raw)
  if not raw then return 0, 0 end
  local bytes, seconds, nanos, place = {string.byte(raw, 1, -1)}, 0, 0, 1
  while bytes[place] do
    local field, value, scale, byte = bytes[place], 0, 1, 128
    while byte >= 128 do
      place = place + 1
      byte = bytes[place]
      if not byte then return 0, 0 end
      value, scale = value + (byte % 128) * scale, scale * 128
    end
    if field == 8 then
      seconds = value
    elseif field == 16 then
      nanos = value
    else
      return 0, 0
    end
    place = place + 1
  end
  if seconds >= 2 ^ 62 or nanos >= 1e9 then return 0, 0 end
  return seconds, nanos
end

-- Whether a row of this time takes the place of one of that: of the same time it does not, of none it does.
local function is_newer(raw, stored)
  if not stored or stored == raw then return not stored end
  local seconds, nanos = event_time(raw)
  local stored_seconds, stored_nanos = event_time(stored)
  if stored_seconds == 0 and stored_nanos == 0 then return true end
  return seconds > stored_seconds or (seconds == stored_seconds and nanos > stored_nanos)
end

