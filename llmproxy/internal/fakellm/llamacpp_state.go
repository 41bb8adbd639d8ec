package fakellm

import (
	"fmt"
	"net/http"
	"strings"
)

// What llama-server tells about itself.

// load is how many requests generate now and how many wait for a slot.
func (s *Server) load() (running, waiting int) {
	n := s.InFlight()
	if s.slots == nil {
		return n, 0
	}
	running = min(n, cap(s.slots))
	return running, n - running
}

func llamaModels(c *call) reply {
	name := quote(c.s.names()[0])
	return c.json(`{"models":[{"name":` + name + `,"model":` + name + `,"modified_at":"","size":"","digest":"","type":"model","description":"",` +
		`"tags":[""],"capabilities":["completion"],"parameters":"","details":{"parent_model":"","format":"gguf","family":"","families":[""],` +
		`"parameter_size":"","quantization_level":""}}],"object":"list","data":[{"id":` + name + `,"aliases":[` + name + `],"tags":[],` +
		`"object":"model","created":` + created + `,"owned_by":"llamacpp","meta":{"vocab_type":2,"n_vocab":320,"n_ctx":2048,"n_ctx_train":4096,` +
		`"n_embd":384,"n_params":1083264,"size":4333056,"ftype":"all F32"}}]}`)
}

func llamaProps(c *call) reply {
	return c.json(fmt.Sprintf(`{"default_generation_settings":{"params":{"seed":4294967295,"temperature":0.8,"stream":false},"n_ctx":2048},"total_slots":%d,`+
		`"model_alias":%s,"model_ftype":"all F32","model_path":"/models/tiny.gguf","modalities":{"vision":false,"video":false,"audio":false},`+
		`"endpoint_slots":true,"endpoint_props":false,"endpoint_metrics":true,"chat_template":"","is_sleeping":false,"build_info":"b1-de3ff81"}`,
		c.s.places(), quote(c.s.names()[0])))
}

// places is the number of slots; llama-server has always one.
func (s *Server) places() int { return max(1, cap(s.slots)) }

func llamaSlots(c *call) reply {
	running, _ := c.s.load()
	if c.r.URL.Query().Get("fail_on_no_slot") == "1" && running >= c.s.places() {
		return c.refuse(c.kind.problems[busy])
	}
	slots := make([]string, c.s.places())
	for i := range slots {
		slots[i] = fmt.Sprintf(`{"id":%d,"n_ctx":2048,"speculative":false,"is_processing":%t}`, i, i < running)
	}
	return c.json(`[` + strings.Join(slots, ",") + `]`)
}

func llamaMetrics(c *call) reply {
	running, waiting := c.s.load()
	body := fmt.Sprintf("# HELP llamacpp:requests_processing Number of requests processing\n# TYPE llamacpp:requests_processing gauge\n"+
		"llamacpp:requests_processing %d\n# HELP llamacpp:requests_deferred Number of requests deferred\n"+
		"# TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred %d\n"+
		"# HELP llamacpp:tokens_predicted_total Number of generation tokens processed.\n# TYPE llamacpp:tokens_predicted_total counter\n"+
		"llamacpp:tokens_predicted_total %d\n", running, waiting, c.s.decoded.Load())
	return reply{status: http.StatusOK, ctype: "text/plain; version=0.0.4", body: []byte(body)}
}
