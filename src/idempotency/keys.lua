-- One step of one idempotency key; as memory.rs has it.
-- KEYS: the key. ARGV: step, holder, now (ms), then for `begin`: request, answered by (ms), window (ms).
-- The entry: request, holder, phase, answered by.
-- Returns: what the key stands for, and until when somebody works on it; of the other steps `lost`,
-- where somebody else has the key by now.
local key, step, holder, now = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local found = redis.call('HMGET', key, 'request', 'holder', 'phase', 'answered_by')
local request, held_by, phase, answered_by = found[1], found[2], found[3], tonumber(found[4])

if step == 'begin' then
  local over = request and answered_by <= now
  if not request or (phase == 'working' and over) then
    redis.call('DEL', key)
    redis.call('HSET', key, 'request', ARGV[4], 'holder', holder, 'phase', 'working', 'answered_by', ARGV[5])
    redis.call('PEXPIRE', key, ARGV[6])
    return {'first', '0'}
  end
  if request ~= ARGV[4] then return {'conflict', '0'} end
  if phase == 'done' then return {'done', '0'} end
  if over then return {'unconfirmed', '0'} end
  return {'busy', found[4]}
end

if not held_by then return {} end
if held_by ~= holder then return {'lost'} end
if step == 'forget' then
  redis.call('DEL', key)
elseif step == 'leave_open' then
  if now < answered_by then redis.call('HSET', key, 'answered_by', ARGV[3]) end
else
  redis.call('HSET', key, 'phase', step)
end
return {}
