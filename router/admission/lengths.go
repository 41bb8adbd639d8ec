package admission

import "math"

// lengths is a histogram of the lengths of answers, in which older answers count less.
type lengths struct {
	answers [buckets]float64 // by their length
	tokens  [buckets]float64 // of these answers
	grown   float64          // what the next answer counts; growing it is the same as shrinking all others
}

const (
	// longMemory is how much an earlier answer counts beside the next one.
	longMemory = 0.995
	// usualOutput is the assumed length of an answer in tokens until enough are known.
	usualOutput = 256

	buckets      = 48   // enough for answers of a million tokens
	firstBucket  = 8.0  // the longest answer of the first bucket, in tokens
	bucketGrowth = 1.28 // of the longest answer from one bucket to the next
	maxGrown     = 1e9
)

var logGrowth = math.Log(bucketGrowth)

func bucketOf(tokens int) int {
	if tokens <= firstBucket {
		return 0
	}
	return min(int(math.Ceil(math.Log(float64(tokens)/firstBucket)/logGrowth)), buckets-1)
}

// learn adds an answer. If it was cut off by the request's limit, it would have become as long as one of those that were longer.
func (l *lengths) learn(tokens int, cut bool) {
	if l.grown == 0 || l.grown > maxGrown {
		for i := range l.answers {
			l.answers[i] /= max(l.grown, 1)
			l.tokens[i] /= max(l.grown, 1)
		}
		l.grown = 1
	}
	l.grown /= longMemory
	b := bucketOf(tokens)
	longer := 0.0
	for i := b + 1; cut && i < buckets; i++ {
		longer += l.answers[i]
	}
	if longer == 0 {
		l.answers[b] += l.grown
		l.tokens[b] += l.grown * float64(tokens)
		return
	}
	for i := b + 1; i < buckets; i++ {
		part := l.grown / longer
		l.tokens[i] += l.tokens[i] * part
		l.answers[i] += l.answers[i] * part
	}
}

// answers are the lengths of a model's answers, by the size of the prompt: most prompts come from a few templates and programs, and how long
// an answer becomes depends on them much more than on chance.
type answers struct {
	all    lengths
	bySize [buckets]*lengths // nil until there is an answer to a prompt of that size
}

// fewAnswers is how many answers to prompts of a size count as much as all answers of the model together.
const fewAnswers = 3

func (a *answers) learn(prompt, output, limit int) {
	cut := limit > 0 && output >= limit
	a.all.learn(output, cut)
	size := &a.bySize[bucketOf(prompt)]
	if *size == nil {
		*size = new(lengths)
	}
	(*size).learn(output, cut)
}

// of returns the lengths of answers to prompts like that of a request, within its limit: how many there are in each bucket and how long these
// are on average.
func (a *answers) of(q *Request) (d distribution) {
	size := a.bySize[bucketOf(q.Prompt)]
	if q.Prompt == 0 {
		size = nil
	}
	d.limit = math.Inf(1)
	if q.MaxOutput > 0 {
		d.limit = float64(q.MaxOutput)
	}
	all := 0.0
	for _, n := range a.all.answers {
		all += n
	}
	if all == 0 {
		return d
	}
	for i := range d.answers {
		n, tokens := a.all.answers[i]*fewAnswers/all, a.all.tokens[i]*fewAnswers/all
		if size != nil {
			n += size.answers[i] / size.grown
			tokens += size.tokens[i] / size.grown
		}
		if n == 0 {
			continue
		}
		d.answers[i], d.lengths[i] = n, min(tokens/n, d.limit)
		d.total += n
	}
	return d
}

// mean returns the expected length of the answer to a request.
func (a *answers) mean(q *Request) float64 {
	d := a.of(q)
	switch {
	case d.total > 0:
		return d.mean()
	case q.MaxOutput > 0:
		return float64(min(q.MaxOutput, usualOutput))
	}
	return usualOutput
}

// A distribution is how often answers are how long.
type distribution struct {
	total            float64
	limit            float64 // the longest possible answer; infinite if there is no limit
	answers, lengths [buckets]float64
}

func (d *distribution) mean() float64 {
	tokens := 0.0
	for i, n := range d.answers {
		tokens += n * d.lengths[i]
	}
	return tokens / d.total
}

// bounds returns between which lengths the answers of a bucket probably are: around their mean.
func (d *distribution) bounds(i int) (shortest, longest float64) {
	mean := d.lengths[i]
	if mean >= d.limit {
		return d.limit, d.limit
	}
	spread := min(mean, firstBucket*math.Pow(bucketGrowth, float64(i))*(1-1/bucketGrowth)/2)
	return mean - spread, min(mean+spread, d.limit)
}
