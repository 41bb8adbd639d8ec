package fakellm

// A refusal is a reason not to answer. Each kind has its own words for it: refusals_*.go.
type refusal uint8

const (
	accepted refusal = iota
	busy
	loading
	unknownModel
	tooLong
	outputTooLong
	noTools
	internalError
	unauthorized
	rateLimited
	noQuota
	badJSON
	missingModel
	missingInput
	tokenInput
	wrongPath
	wrongMethod
)

// Busy refuses for want of room: Ollama's full queue, vLLM's, OpenAI's 503. llama-server never refuses a generation; its
// answer here is what it says to GET /slots?fail_on_no_slot=1.
func Busy() Answer { return Answer{refusal: busy} }

// Loading is a server that is not up yet. llama-server answers 503, OpenAI 503; Ollama says nothing at all until the client
// leaves; vLLM does not even listen: its connection is reset (see also Server.Down).
func Loading() Answer { return Answer{refusal: loading} }

// UnknownModel refuses for a model that the server does not have.
func UnknownModel() Answer { return Answer{refusal: unknownModel} }

// TooLong refuses a prompt that is longer than the context.
func TooLong() Answer { return Answer{refusal: tooLong} }

// OutputTooLong refuses a max_tokens that does not fit behind the prompt. Only OpenAI and vLLM do that; the others answer as
// always, with finish_reason "length".
func OutputTooLong() Answer { return Answer{refusal: outputTooLong} }

// NoTools refuses tools.
func NoTools() Answer { return Answer{refusal: noTools} }

// InternalError is the kind's 500.
func InternalError() Answer { return Answer{refusal: internalError} }

// Unauthorized refuses the key.
func Unauthorized() Answer { return Answer{refusal: unauthorized} }

// RateLimited is OpenAI's 429 with Retry-After: 1, for every kind: the local servers have none, but what stands in front of them may.
func RateLimited() Answer { return Answer{refusal: rateLimited} }

// NoQuota is OpenAI's 429 insufficient_quota, for every kind.
func NoQuota() Answer { return Answer{refusal: noQuota} }
