package redislimit

import "github.com/redis/go-redis/v9"

// counterFunctions begins each script. A counter is a text of numbers, which ratelimit.ParseCounter describes; the counter of a
// concurrency limit is a sorted set of leases by the time of their end. Time is the server's, in microseconds, unless a test
// sets it. Every key expires when its counter is empty again.
//
// In the table of a counter, tokens and requests are {used, time, reserved}; calendar budgets {period, alerted, spent,
// reserved}; sliding budgets {newest interval, alerted, spent in 61 intervals, reserved}. Requests have nothing reserved.
const counterFunctions = `
local clock = tonumber(ARGV[1])
if not clock then
	local t = redis.call('TIME')
	clock = t[1] * 1000000 + t[2]
end

local function text(counter)
	local s = {}
	for i, n in ipairs(counter) do s[i] = n == 0 and '0' or string.format('%.17g', n) end
	return table.concat(s, ' ')
end

-- period returns the number of the calendar day or month that contains a time. Months are computed in eras of 400 years that
-- begin on 1 March, because then the leap day is the last day of a year.
local function period(kind, at)
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

-- advance reads a counter and brings it up to now. It returns the counter, how much is used, and whether the clock has stepped
-- back: then the counter must be saved even if nothing is reserved, or it would wait for the time before the step.
local function advance(key, kind, limit, window)
	if kind == 'c' then
		redis.call('ZREMRANGEBYSCORE', key, '-inf', clock)
		local running = redis.call('ZCARD', key)
		return {running}, running, false
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
		local interval = math.floor(clock / window)
		if #f == 0 then
			f = {interval, 0}
			for i = 3, 64 do f[i] = 0 end
		end
		local back = interval < f[1] - 1
		if back then f[1] = interval end
		local ahead = math.min(interval - f[1], 61)
		if ahead > 0 then
			for i = 63, 3, -1 do f[i] = i - ahead >= 3 and f[i - ahead] or 0 end
			f[1] = interval
		end
		local sum = 0
		for i = 3, 63 do sum = sum + f[i] end
		f[64] = math.min(f[64] or 0, sum)
		return f, sum, back
	end
	local now = period(kind, clock)
	if #f == 0 or now > f[1] then f = {now, 0, 0} end
	local back = now < f[1] - 1
	if back then f[1] = now end
	f[4] = math.min(f[4] or 0, f[3])
	return f, f[3], back
end

-- reservedAt is where a counter has what running requests have reserved.
local function reservedAt(kind) return kind == 's' and 64 or kind == 't' and 3 or 4 end

-- usedAt is where a counter has what is used now.
local function usedAt(kind) return (kind == 'b' or kind == 't') and 1 or 3 end

local function save(key, kind, limit, window, f)
	local ttl = 0 -- microseconds
	if kind == 'b' or kind == 't' then ttl = f[1] * window / limit end
	if kind == 's' then ttl = 62 * window end
	if kind == 'd' then ttl = 2 * 86400000000 end
	if kind == 'm' then ttl = 62 * 86400000000 end
	local s = text(f)
	redis.call('SET', key, s, 'PX', string.format('%.0f', ttl / 1000 + 1000))
	return s
end
`

// reserveScript reserves from all limits or from none. KEYS: the limits. ARGV: the time; the lease; how many microseconds it
// lasts; whether to reserve at all; then for each limit its kind, number, window and the amount. It returns the time, whether
// it reserved, and the counters.
var reserveScript = redis.NewScript(counterFunctions + `
local counters, byKey, saved, fits = {}, {}, {}, ARGV[4] == '1'
for i, key in ipairs(KEYS) do
	local a = 1 + 4 * i
	local kind, limit, window, n = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
	local f, used, back = advance(key, kind, limit, window)
	if back then save(key, kind, limit, window, f) end
	f = byKey[key] or f
	byKey[key], counters[i] = f, f
	if used + n > limit then fits = false end
end
if fits then
	for i, key in ipairs(KEYS) do
		local a = 1 + 4 * i
		local kind, f, n = ARGV[a], counters[i], tonumber(ARGV[a + 3])
		if kind == 'c' then
			redis.call('ZADD', key, string.format('%.0f', clock + ARGV[3]), ARGV[2])
			redis.call('PEXPIRE', key, string.format('%.0f', ARGV[3] / 1000 + 1000))
			f[1] = redis.call('ZCARD', key)
		else
			local at = usedAt(kind)
			f[at] = f[at] + n
			if kind ~= 'b' then f[reservedAt(kind)] = f[reservedAt(kind)] + n end
			saved[key] = save(key, kind, tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), f)
		end
	end
end
local reply = {string.format('%.0f', clock), fits and 1 or 0}
for i, key in ipairs(KEYS) do reply[i + 2] = saved[key] or text(counters[i]) end
return reply
`)

// settleScript replaces what was reserved by what was used. KEYS: the limits, and a mark if it must happen only once. ARGV: the
// time; the lease; for how many seconds the mark is kept, or nothing without one; then for each limit its kind, number, window,
// the amount reserved, the amount used, and when. It returns for each limit the threshold, 80 or 100 percent, that a budget has
// reached since the last time, or 0.
var settleScript = redis.NewScript(counterFunctions + `
local alerts, last = {}, #KEYS
if ARGV[3] ~= '' then
	if not redis.call('SET', KEYS[last], 1, 'NX', 'EX', ARGV[3]) then return alerts end
	last = last - 1
end
for i = 1, last do
	local key, a = KEYS[i], 6 * i - 2
	local kind, limit, window = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
	local more, time = ARGV[a + 4] - ARGV[a + 3], tonumber(ARGV[a + 5])
	alerts[i] = 0
	if kind == 'c' then
		redis.call('ZREM', key, ARGV[2])
	else
		local f, used = advance(key, kind, limit, window)
		local at = usedAt(kind)
		if kind == 's' then at = 3 + math.min(math.max(0, f[1] - math.floor(time / window)), 60) end
		if at == 1 or kind == 's' or period(kind, time) >= f[1] then
			local before = f[at]
			f[at] = math.max(0, before + more)
			used = used + f[at] - before
			if kind ~= 'b' then f[reservedAt(kind)] = math.max(0, f[reservedAt(kind)] - ARGV[a + 3]) end
		end
		if at > 1 then
			used = used - math.min(f[reservedAt(kind)], used)
			local reached = used >= limit and 100 or used >= 0.8 * limit and 80 or 0
			if reached > f[2] then alerts[i] = reached end
			f[2] = reached
		end
		save(key, kind, limit, window, f)
	end
end
return alerts
`)

// renewScript extends leases, including ones that the server has lost. KEYS: the concurrency limits. ARGV: the time; for how many
// microseconds; then the lease of each limit.
var renewScript = redis.NewScript(counterFunctions + `
for i, key in ipairs(KEYS) do
	redis.call('ZADD', key, string.format('%.0f', clock + ARGV[2]), ARGV[i + 2])
	redis.call('PEXPIRE', key, string.format('%.0f', ARGV[2] / 1000 + 1000))
end
return #KEYS
`)

// heartbeatScript registers a process. KEYS: the set of processes. ARGV: the time; for how many microseconds, where 0 unregisters
// it; the process. It returns how many processes are registered.
var heartbeatScript = redis.NewScript(counterFunctions + `
redis.call('ZADD', KEYS[1], string.format('%.0f', clock + ARGV[2]), ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', clock)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[2] / 1000 + 60000))
return redis.call('ZCARD', KEYS[1])
`)
