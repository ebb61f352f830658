-- What keys were charged.
-- KEYS: one for each limit. ARGV: now (ms), then of each limit: count, window (ms).
-- Returns for each: charges within the window, and from when on one more is not too many (0: always).
local found, now = {}, tonumber(ARGV[1])
for place, key in ipairs(KEYS) do
  local count, window = tonumber(ARGV[place * 2]), tonumber(ARGV[place * 2 + 1])
  local all = redis.call('ZCARD', key)
  local free = 0
  if all >= count then
    free = tonumber(redis.call('ZRANGE', key, all - count, all - count, 'WITHSCORES')[2]) + window
  end
  local since = string.format('(%d', now - window)
  found[#found + 1] = tostring(redis.call('ZCOUNT', key, since, '+inf'))
  found[#found + 1] = string.format('%d', free)
end
return found
