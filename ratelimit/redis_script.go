package ratelimit

import (
	"github.com/redis/go-redis/v9"
)

// The facts of a limit are one text of numbers, as shared_facts.go reads them; places are a sorted set of leases by their
// ends. Time is the server's, in microseconds, unless a test gives it. Every fact goes by itself when it says nothing any more.
const sharedCells = `
local clock = tonumber(ARGV[1])
if not clock then
	local t = redis.call('TIME')
	clock = t[1] * 1000000 + t[2]
end

local function text(f)
	local s = {}
	for i, n in ipairs(f) do s[i] = n == 0 and '0' or string.format('%.17g', n) end
	return table.concat(s, ' ')
end

-- periods numbers the days or months of the calendar.
local function periods(kind, at)
	local days = math.floor(at / 86400000000)
	if kind == 'd' then return days + 1 end
	local z = days + 719468
	local era = math.floor(z / 146097)
	local doe = z - era * 146097
	local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
	local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
	local mp = math.floor((5 * doy + 2) / 153)
	local month, year = mp + 3, yoe + era * 400
	if mp > 9 then month, year = mp - 9, year + 1 end
	return year * 12 + month
end

-- look brings the facts up to now, and tells how much is used and whether the clock has stepped back: then they must be kept
-- even if nothing is taken, or they would wait for the time from before the step.
local function look(key, kind, limit, window)
	if kind == 'c' then
		redis.call('ZREMRANGEBYSCORE', key, '-inf', clock)
		local held = redis.call('ZCARD', key)
		return {held}, held, false
	end
	local f = {}
	for n in string.gmatch(redis.call('GET', key) or '', '%S+') do f[#f + 1] = tonumber(n) end
	if kind == 'b' or kind == 't' then
		if #f == 0 then f = {0, clock} end
		local back = clock < f[2]
		if clock > f[2] then f[1] = math.max(0, f[1] - (clock - f[2]) * limit / window) end
		f[2] = clock
		if kind == 't' then f[3] = math.min(f[3] or 0, math.floor(f[1])) end
		return f, f[1], back
	end
	if kind == 's' then
		local slot = math.floor(clock / window)
		if #f == 0 then
			f = {slot, 0}
			for i = 3, 64 do f[i] = 0 end
		end
		local back = slot < f[1] - 1
		if back then f[1] = slot end
		local ahead = math.min(slot - f[1], 61)
		if ahead > 0 then
			for i = 63, 3, -1 do f[i] = i - ahead >= 3 and f[i - ahead] or 0 end
			f[1] = slot
		end
		local sum = 0
		for i = 3, 63 do sum = sum + f[i] end
		f[64] = math.min(f[64] or 0, sum)
		return f, sum, back
	end
	local number = periods(kind, clock)
	if #f == 0 or number > f[1] then f = {number, 0, 0} end
	local back = number < f[1] - 1
	if back then f[1] = number end
	f[4] = math.min(f[4] or 0, f[3])
	return f, f[3], back
end

-- open is where the facts say what requests under way have reserved.
local function open(kind) return kind == 's' and 64 or kind == 't' and 3 or 4 end

-- counts is where they say how much is used now.
local function counts(kind) return (kind == 'b' or kind == 't') and 1 or 3 end

local function save(key, kind, limit, window, f)
	local life = 0 -- microseconds
	if kind == 'b' or kind == 't' then life = f[1] * window / limit end
	if kind == 's' then life = 62 * window end
	if kind == 'd' then life = 2 * 86400000000 end
	if kind == 'm' then life = 62 * 86400000000 end
	local s = text(f)
	redis.call('SET', key, s, 'PX', string.format('%.0f', life / 1000 + 1000))
	return s
end
`

// takeShared takes from all limits or from none. KEYS: the limits. ARGV: the time, the lease, for how many microseconds it is
// good, whether to take at all; then for each limit its kind, number, window and what is wanted. It gives the time, whether
// it was taken, and the facts.
var takeShared = redis.NewScript(sharedCells + `
local cells, of, saved, fits = {}, {}, {}, ARGV[4] == '1'
for i, key in ipairs(KEYS) do
	local a = 1 + 4 * i
	local kind, limit, window, n = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
	local f, used, back = look(key, kind, limit, window)
	if back then save(key, kind, limit, window, f) end
	f = of[key] or f
	of[key], cells[i] = f, f
	if used + n > limit then fits = false end
end
if fits then
	for i, key in ipairs(KEYS) do
		local a = 1 + 4 * i
		local kind, f, n = ARGV[a], cells[i], tonumber(ARGV[a + 3])
		if kind == 'c' then
			redis.call('ZADD', key, string.format('%.0f', clock + ARGV[3]), ARGV[2])
			redis.call('PEXPIRE', key, string.format('%.0f', ARGV[3] / 1000 + 1000))
			f[1] = redis.call('ZCARD', key)
		else
			local at = counts(kind)
			f[at] = f[at] + n
			if kind ~= 'b' then f[open(kind)] = f[open(kind)] + n end
			saved[key] = save(key, kind, tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), f)
		end
	end
end
local answer = {string.format('%.0f', clock), fits and 1 or 0}
for i, key in ipairs(KEYS) do answer[i + 2] = saved[key] or text(cells[i]) end
return answer
`)

// settleShared puts what was used in the place of what was taken. KEYS: the limits, and a mark if it must be done only once.
// ARGV: the time, the lease, for how many seconds the mark is kept, if there is one; then for each limit its kind, number,
// window, what was taken, what was used, and when. It gives for each the mark of 80 or 100 percent that a budget has passed
// since the last time, or 0.
var settleShared = redis.NewScript(sharedCells + `
local marks, last = {}, #KEYS
if ARGV[3] ~= '' then
	if not redis.call('SET', KEYS[last], 1, 'NX', 'EX', ARGV[3]) then return marks end
	last = last - 1
end
for i = 1, last do
	local key, a = KEYS[i], 6 * i - 2
	local kind, limit, window = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
	local more, taken = ARGV[a + 4] - ARGV[a + 3], tonumber(ARGV[a + 5])
	marks[i] = 0
	if kind == 'c' then
		redis.call('ZREM', key, ARGV[2])
	else
		local f, used = look(key, kind, limit, window)
		local at = counts(kind)
		if kind == 's' then at = 3 + math.min(math.max(0, f[1] - math.floor(taken / window)), 60) end
		if at == 1 or kind == 's' or periods(kind, taken) >= f[1] then
			local before = f[at]
			f[at] = math.max(0, before + more)
			used = used + f[at] - before
			if kind ~= 'b' then f[open(kind)] = math.max(0, f[open(kind)] - ARGV[a + 3]) end
		end
		if at > 1 then
			used = used - math.min(f[open(kind)], used)
			local level = used >= limit and 100 or used >= 0.8 * limit and 80 or 0
			if level > f[2] then marks[i] = level end
			f[2] = level
		end
		save(key, kind, limit, window, f)
	end
end
return marks
`)

// renewShared makes leases good for longer, also ones that the server has lost. KEYS: the places. ARGV: the time, for how many
// microseconds; then the lease of each.
var renewShared = redis.NewScript(sharedCells + `
for i, key in ipairs(KEYS) do
	redis.call('ZADD', key, string.format('%.0f', clock + ARGV[2]), ARGV[i + 2])
	redis.call('PEXPIRE', key, string.format('%.0f', ARGV[2] / 1000 + 1000))
end
return #KEYS
`)

// presentShared notes that a process is there. KEYS: the processes. ARGV: the time, for how many microseconds it is noted, and
// the process; less than one microsecond takes it out. It gives how many are there.
var presentShared = redis.NewScript(sharedCells + `
redis.call('ZADD', KEYS[1], string.format('%.0f', clock + ARGV[2]), ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', clock)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[2] / 1000 + 60000))
return redis.call('ZCARD', KEYS[1])
`)
