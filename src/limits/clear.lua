-- Forgets what keys were charged. KEYS: one for each limit. Returns how many there were.
return {tostring(redis.call('DEL', unpack(KEYS)))}
