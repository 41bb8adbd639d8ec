package ledger

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// redisTimeout bounds each question to the server. No request waits for one.
	redisTimeout = 2 * time.Second
	// partRows is how many rows are sent at once: a script keeps the server from everybody else.
	partRows = 200
	// scanFields is about how many fields are read at once.
	scanFields = 1000
	// sharedRows is what maxRows is for a file: in the server's memory a row takes some 800 bytes.
	sharedRows = 4096
	// markSeconds is how long the server remembers that it has a part: longer than a part waits to be sent again.
	markSeconds = 24 * 60 * 60
	// sharedPrefix begins the server's keys; the braces put all of them on one node of a cluster.
	sharedPrefix = "llm_proxy:{usage}:"
)

// A Shared is a ledger in Redis or Valkey, which any number of processes write to: a hash for each day. What was used waits
// in memory while the server is away. It is safe for concurrent use.
type Shared struct {
	batcher
	client redis.UniversalClient
	name   string // unique among the ledgers that use the server
	parts  int    // sent so far
	queue  []part // to be sent, or sent without an answer; guarded by writing
}

// A part is what is sent at once. Its mark keeps the server from counting it twice, when only the answer was lost.
type part struct {
	day  day
	mark string
	args []any
}

// NewShared makes a ledger. It asks the server nothing. Report hears when the server cannot be used, once, and of nil when it
// can be used again; nil for nobody. It must not block.
func NewShared(client redis.UniversalClient, report func(error)) *Shared {
	s := &Shared{client: client, name: rand.Text()}
	s.init(report, func(b *batch, _ *entry) (*batch, error) { return s.commit(b) })
	return s
}

// Close writes the pending batch. Usage added later is lost. The caller closes the client.
func (s *Shared) Close() error { return s.finish() }

// Query sums what was used until now, by all, in the order of days, keys, models and targets.
func (s *Shared) Query(q Query) ([]Row, error) { return q.ask(s) }

// commit sends what is left from before, and then the batch; while there is something left, batches grow in memory.
func (s *Shared) commit(b *batch) (rest *batch, err error) {
	if err := s.send(); err != nil {
		return b, err
	}
	s.queue = s.split(b)
	return nil, s.send()
}

func (s *Shared) send() error {
	for len(s.queue) > 0 {
		p := s.queue[0]
		ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
		err := addRows.Run(ctx, s.client, []string{sharedPrefix + p.day.String(), sharedPrefix + p.mark}, p.args...).Err()
		cancel()
		if err != nil {
			return fmt.Errorf("writing usage to the shared state: %w", err)
		}
		s.queue = s.queue[1:]
	}
	return nil
}

// split makes parts of a batch.
func (s *Shared) split(b *batch) (parts []part) {
	byDay := map[day][]rowID{}
	for id := range b.rows {
		byDay[id.day] = append(byDay[id.day], id)
	}
	for _, d := range slices.Sorted(maps.Keys(byDay)) {
		for ids := range slices.Chunk(byDay[d], partRows) {
			s.parts++
			p := part{day: d, mark: "mark:" + s.name + ":" + strconv.Itoa(s.parts), args: []any{sharedRows, (retention + 1) * secondsADay, markSeconds}}
			for _, id := range ids {
				p.args = b.rows[id].appendArgs(id.appendArgs(p.args))
			}
			parts = append(parts, p)
		}
	}
	return parts
}

// appendArgs appends the row's name, and those to use instead when there are too many.
func (id rowID) appendArgs(args []any) []any {
	none := func(rowID) bool { return false }
	for _, n := range [...]int{0, maxRows, 2 * maxRows} {
		args = append(args, id.within(n, none).appendName(nil))
	}
	return args
}

// The fields of a row in its day's hash are its name and one of these letters.
const (
	countFields = "rioecutwhabmnyxpf"
	moneyFields = "ds"
)

func (s *Sums) counts() [len(countFields)]*int64 {
	return [...]*int64{
		&s.Requests, &s.Input, &s.Output, &s.Spilled, &s.Cached, &s.Unpriced, &s.Reasoning, &s.CacheWrite, &s.CacheWriteHour,
		&s.AudioInput, &s.AudioOutput, &s.ImageInput, &s.ImageOutput, &s.AudioMillis, &s.Characters, &s.Images, &s.Searches,
	}
}

func (s *Sums) money() [len(moneyFields)]*float64 { return [...]*float64{&s.USD, &s.Saved} }

func (s *Sums) appendArgs(args []any) []any {
	for _, n := range s.counts() {
		args = append(args, *n)
	}
	for _, usd := range s.money() {
		if math.IsNaN(*usd) || math.IsInf(*usd, 0) {
			*usd = 0 // the server would refuse it
		}
		args = append(args, strconv.FormatFloat(*usd, 'f', -1, 64))
	}
	return args
}

// days implements pages.
func (s *Shared) days(first, last day) (list []day, err error) {
	today := dayOf(time.Now())
	for d := max(first, today-min(today, retention)); d <= min(last, today+1); d++ { // another's clock may be ahead
		list = append(list, d)
	}
	return list, nil
}

// rows implements pages.
func (s *Shared) rows(d day, each func(rowID, Sums)) error {
	rows := map[string]*Sums{}
	for cursor := uint64(0); ; {
		fields, next, err := s.scan(d, cursor)
		if err != nil {
			return fmt.Errorf("reading the shared state: %w", err)
		}
		for i := 0; i+1 < len(fields); i += 2 {
			if err := addField(rows, fields[i], fields[i+1]); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	for name, sums := range rows {
		id := rowID{day: d}
		if err := id.parseName([]byte(name)); err != nil {
			return err
		}
		each(id, *sums)
	}
	return nil
}

// scan reads some fields of a day, each followed by its value, and returns where to continue. A field may come twice. Reading a busy day at
// once would block the server for other clients and could exceed the timeout.
func (s *Shared) scan(d day, from uint64) (fields []string, next uint64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	return s.client.HScan(ctx, sharedPrefix+d.String(), from, "", scanFields).Result()
}

func addField(rows map[string]*Sums, field, value string) error {
	if field == rowsField {
		return nil
	}
	name, letter := field[:max(0, len(field)-1)], field[max(0, len(field)-1):]
	if rows[name] == nil {
		rows[name] = new(Sums)
	}
	return rows[name].parseField(letter, value)
}

func (s *Sums) parseField(letter, value string) (err error) {
	for i, n := range s.counts() {
		if letter == countFields[i:i+1] {
			*n, err = strconv.ParseInt(value, 10, 64)
			return err
		}
	}
	for i, usd := range s.money() {
		if letter == moneyFields[i:i+1] {
			*usd, err = strconv.ParseFloat(value, 64)
			return err
		}
	}
	return nil // of a newer version
}

// rowsField counts the rows of a day. No row's field is like it: those begin with the length of a name.
const rowsField = "rows"

// addRows adds rows to the hash of a day, once. KEYS: the hash, and the mark of what is added. ARGV: how many rows a day may
// have, for how many seconds the hash and the mark are kept; then for each row its name, two to use instead of it when there
// are too many, the counts and the amounts of money. Counts of zero are not stored, except that of requests, which every row has.
var addRows = redis.NewScript(`
local counts, money = '` + countFields + `', '` + moneyFields + `'
if not redis.call('SET', KEYS[2], 1, 'NX', 'EX', ARGV[3]) then
	return 0
end
local day = KEYS[1]
for i = 4, #ARGV, 3 + #counts + #money do
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
	for n = 1, #counts do
		local count = ARGV[i + 2 + n]
		if n == 1 or count ~= '0' then
			redis.call('HINCRBY', day, name .. counts:sub(n, n), count)
		end
	end
	for n = 1, #money do
		redis.call('HINCRBYFLOAT', day, name .. money:sub(n, n), ARGV[i + 2 + #counts + n])
	end
end
redis.call('EXPIRE', day, ARGV[2])
return 1
`)
