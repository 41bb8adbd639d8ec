package ledger

import "github.com/redis/go-redis/v9"

// rowsField counts the rows of a day. No row's field is like it: those begin with the length of a name.
const rowsField = "rows"

// addRows adds rows to the hash of a day, once. KEYS: the hash, and the mark of what is added. ARGV: how many rows a day may
// have, for how many seconds the hash and the mark are kept; then for each row its name, two to use instead of it when there
// are too many, six counts and two amounts of money.
var addRows = redis.NewScript(`
if not redis.call('SET', KEYS[2], 1, 'NX', 'EX', ARGV[3]) then
	return 0
end
local day = KEYS[1]
for i = 4, #ARGV, 11 do
	local name
	for wider = 0, 2 do
		name = ARGV[i + wider]
		if redis.call('HEXISTS', day, name .. 'r') == 1 then
			break
		end
		local rows = tonumber(redis.call('HGET', day, 'rows') or 0)
		if wider == 2 or rows < ARGV[1] * (wider + 1) then
			redis.call('HINCRBY', day, 'rows', 1)
			break
		end
	end
	for n, letter in ipairs({'r', 'i', 'o', 'e', 'c', 'u'}) do
		redis.call('HINCRBY', day, name .. letter, ARGV[i + 2 + n])
	end
	for n, letter in ipairs({'d', 's'}) do
		redis.call('HINCRBYFLOAT', day, name .. letter, ARGV[i + 8 + n])
	end
end
redis.call('EXPIRE', day, ARGV[2])
return 1
`)
