-- Of two events of one time, whether the one at this place of Kafka is the later: `Place.is_later` of
-- foretaste.kernel.users. `mark` is the registration that is stored; '-' for a partition where there is no place.
local function is_later_in_place(mark, partition, offset, timestamp)
  local stored_partition, stored_offset, stored_timestamp = string.match(mark, '^(%S+) (%d+) (%-?%d+)')
  if partition == '-' then return false end
  if not stored_partition or stored_partition == '-' then return true end
  if stored_partition == partition then return tonumber(offset) > tonumber(stored_offset) end
  if stored_timestamp ~= timestamp then return tonumber(timestamp) > tonumber(stored_timestamp) end
  return partition > stored_partition
end

-- Whether a registration's mark is that of an erasure: its last digest is no event's.
local function is_erasure(mark)
  return string.sub(mark, -17) == ' 0000000000000000'
end

