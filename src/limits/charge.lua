-- Charges one request to every limit, or to none; one atomic step.
-- KEYS: the request's source, then one for each limit.
-- ARGV: received (ms), the source's own name, lateness (a request's lifetime, ms), then of each limit:
-- its word, 1 where it refuses, count, window (ms), most charges kept.
-- Returns: '1' where the verdict was there already; the word of the limit that refuses, or 'taken';
-- until when (ms); then the words of shadows that would have refused.
local kept = redis.call('GET', KEYS[1])
if kept then
  local refused_by, free_from = kept:match('^(%S+) (%d+)')
  return {'1', refused_by, free_from}
end

local received, name, lateness = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local function rule(place)
  local at = 3 + (place - 1) * 5
  local count, window, most = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  return ARGV[at + 1], ARGV[at + 2] == '1', count, window, most
end

local function charged_at(key, rank)
  return tonumber(redis.call('ZRANGE', key, rank, rank, 'WITHSCORES')[2])
end

-- As window.rs has it: one more is too many where some window gets more than `count`.
local function is_full(key, count, window)
  local before = redis.call('ZCOUNT', key, '-inf', received)
  local after = redis.call('ZCARD', key) - before
  for later = 0, math.min(after, count) do
    local earlier = count - later
    if earlier <= before then
      local first, last = received, received
      if earlier > 0 then first = charged_at(key, before - earlier) end
      if later > 0 then last = charged_at(key, before + later - 1) end
      if first + window > last then return true end
    end
  end
  return false
end

local refused_by, longest, free_from, shadows = 'taken', -1, 0, {}
for place = 1, #KEYS - 1 do
  local key = KEYS[place + 1]
  local word, refuses, count, window = rule(place)
  local all = redis.call('ZCARD', key)
  local free = 0
  if all >= count then free = charged_at(key, all - count) + window end
  if refuses and free > free_from then free_from = free end
  if is_full(key, count, window) then
    if not refuses then
      shadows[#shadows + 1] = word
    elseif free > longest then
      refused_by, longest = word, free
    end
  end
end

local verdict = string.format('%s %d', refused_by, free_from)
if refused_by == 'taken' then
  for place = 1, #KEYS - 1 do
    local key = KEYS[place + 1]
    local _, _, _, window, most = rule(place)
    redis.call('ZADD', key, ARGV[1], name)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%d', received - window - lateness))
    redis.call('ZREMRANGEBYRANK', key, 0, -most - 1)
    redis.call('PEXPIRE', key, string.format('%d', window + lateness))
    verdict = verdict .. ' ' .. key
  end
end
-- It is handled again within its lifetime; its dead letter may come later, and give it back.
redis.call('SET', KEYS[1], verdict, 'PX', string.format('%d', 2 * lateness))
return {'0', refused_by, string.format('%d', free_from), unpack(shadows)}
