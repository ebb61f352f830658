-- Forgets a request: what it was charged is free again.
-- KEYS: its source. ARGV: the source's own name.
local kept = redis.call('GET', KEYS[1])
if kept then
  for key in kept:match('^%S+ %d+(.*)$'):gmatch('%S+') do
    redis.call('ZREM', key, ARGV[1])
  end
  redis.call('DEL', KEYS[1])
end
return {}
