package llmproxy

// expectedRun is what TestMetricsTellWhatHappened must have counted, but for sums and buckets, which depend on time.
func expectedRun() map[string]float64 {
	want := map[string]float64{
		`llm_requests_total{endpoint="chat",model="run-falls",status="200",target="ok-up/y",verdict="ok"}`:             2,
		`llm_fallbacks_total{model="run-falls",reason="misconfigured"}`:                                                2,
		`llm_requests_total{endpoint="chat",model="run-gone",status="499",target="gone-up/x",verdict="client_closed"}`: 1,
		`llm_requests_total{endpoint="chat",model="run-cut",status="200",target="cut-up/x",verdict="failed"}`:          1,
	}
	refused := map[string][2]string{
		"busy": {"503", "overloaded"}, "config": {"502", "misconfigured"}, "caller": {"422", "client_error"}, "fits": {"400", "unsupported"},
		"slow": {"504", "timeout"}, "broken": {"502", "failed"}, "down": {"503", "unreachable"},
	}
	for model, end := range refused {
		want[`llm_requests_total{endpoint="chat",model="run-`+model+`",status="`+end[0]+`",target="`+model+`-up/x",verdict="`+end[1]+`"}`] = 2
		want[`llm_request_latency_seconds_count{endpoint="chat",model="run-`+model+`",target="`+model+`-up/x"}`] = 2
	}
	for model, target := range map[string]string{"run-ok": "ok-up/x", "run-wild-*": "ok-up/*", "run-falls": "ok-up/y"} {
		labels := `{model="` + model + `",target="` + target + `"}`
		times := 2.0
		if model == "run-wild-*" {
			times = 4
		}
		want[`llm_requests_total{endpoint="chat",model="`+model+`",status="200",target="`+target+`",verdict="ok"}`] = times
		want[`llm_request_latency_seconds_count{endpoint="chat",model="`+model+`",target="`+target+`"}`] = times
		answered(want, model, target, counts{answers: times, streams: times / 2, input: 100 * times, cached: 30 * times, output: 20 * times})
		want["llm_cost_unknown_total"+labels] = times
	}
	// Asked three times, answered once by the upstream.
	want[`llm_requests_total{endpoint="chat",model="run-cached",status="200",target="ok-up/x",verdict="ok"}`] = 1
	want[`llm_requests_total{endpoint="chat",model="run-cached",status="200",target="",verdict="ok"}`] = 2
	want[`llm_request_latency_seconds_count{endpoint="chat",model="run-cached",target="ok-up/x"}`] = 1
	want[`llm_request_latency_seconds_count{endpoint="chat",model="run-cached",target=""}`] = 2
	want[`llm_cache_requests_total{model="run-cached",result="miss"}`] = 1
	want[`llm_cache_requests_total{model="run-cached",result="hit"}`] = 2
	want[`llm_cache_tokens_saved_total{model="run-cached",type="input"}`] = 200
	want[`llm_cache_tokens_saved_total{model="run-cached",type="output"}`] = 40
	answered(want, "run-cached", "ok-up/x", counts{answers: 1, streams: 1, input: 100, cached: 30, output: 20})
	want[`llm_cost_unknown_total{model="run-cached",target="ok-up/x"}`] = 1
	ok := `{model="run-ok",target="ok-up/x"}`
	want["llm_cost_unknown_total"+ok] = 0
	want["llm_cost_usd_total"+ok] = 2 * (70*1 + 30*0.5 + 20*2) / 1e6
	want["llm_cost_reference_usd_total"+ok] = 2 * (100*10 + 20*20) / 1e6
	// The prompt of 15 bytes is estimated as 4 tokens, and 4 for the message; two tokens of the answer were seen, or one.
	for model, output := range map[string]float64{"gone": 2, "cut": 1} {
		target := model + "-up/x"
		want[`llm_request_latency_seconds_count{endpoint="chat",model="run-`+model+`",target="`+target+`"}`] = 1
		answered(want, "run-"+model, target, counts{answers: 1, streams: 1, input: 8, output: output})
		labels := `{model="run-` + model + `",target="` + target + `"}`
		want["llm_usage_estimated_total"+labels] = 1
		want["llm_cost_unknown_total"+labels] = 1
	}
	gone := `{model="run-gone",target="gone-up/x"}`
	want["llm_client_closed_total"+gone], want["llm_tokens_wasted_total"+gone] = 1, 2
	want[`llm_time_per_output_token_seconds_count{model="run-cut",target="cut-up/x"}`] = 0
	return want
}

type counts struct{ answers, streams, input, cached, output float64 }

// answered are the metrics that are there with the first answer.
func answered(want map[string]float64, model, target string, c counts) {
	labels := `model="` + model + `",target="` + target + `"`
	for kind, value := range map[string]float64{"input": c.input, "output": c.output, "cached": c.cached, "reasoning": 0} {
		want["llm_tokens_total{"+labels+`,type="`+kind+`"}`] = value
	}
	for _, name := range []string{"usage_estimated", "tokens_wasted", "client_closed", "cost_usd", "cost_reference_usd", "cost_unknown"} {
		want["llm_"+name+"_total{"+labels+"}"] = 0
	}
	want["llm_time_to_first_token_seconds_count{"+labels+"}"] = c.streams
	want["llm_time_per_output_token_seconds_count{"+labels+"}"] = c.streams
}
