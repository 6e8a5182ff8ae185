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

-- A registration's mark with the digests of what it outdid behind its others: `AttributesVersion.outdoing`. Nil where it
-- has them all. The digest of what stands stays the last; `most` characters of digests are kept.
local function outdoing(mark, digests, most)
  local place = string.match(mark, '^%S+ %S+ %S+')
  local stored, more = place and string.sub(mark, #place + 1) or '', ''
  for digest in string.gmatch(digests, ' %x+') do
    if not string.find(stored, digest, 1, true) then more = more .. digest end
  end
  if more == '' then return nil end
  more = string.sub(stored, 1, -18) .. more .. string.sub(stored, -17)
  return (place or '- 0 0') .. string.sub(more, -tonumber(most))
end

-- Whether a registration's mark is that of an erasure: 16 zeros stand as its last digest.
local function is_erasure(mark)
  return string.sub(mark, -17) == ' 0000000000000000'
end

