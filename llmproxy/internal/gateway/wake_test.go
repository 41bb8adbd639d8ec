package gateway

import (
	"bytes"
	"net"
	"net/http"
	"testing"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/fakellm"
	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/upstream"
)

// sleeper is a gateway in front of a machine that sleeps, with a fallback for the model m, and none for alone. Packets receives what is sent
// to the broadcast address.
func sleeper(t *testing.T) (s *setup, machine *fakellm.Server, broadcast string, packets <-chan []byte) {
	t.Helper()
	network, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan []byte, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			packet := make([]byte, 1500)
			n, _, err := network.ReadFrom(packet)
			if err != nil {
				return
			}
			received <- packet[:n]
		}
	}()
	t.Cleanup(func() { network.Close(); <-done })
	wake, err := upstream.NewWakeUp("00:11:22:33:44:fe", network.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	s = &setup{t: t}
	machine = fakellm.Start(t, "ollama")
	s.up("gpu", upstream.Ollama, func(c *upstream.Config) { c.WakeUp, c.Queue.Size = wake, 4 }, machine.URL())
	s.up("api", upstream.OpenAI, nil, fakellm.Start(t, "openai").URL())
	s.serve("m gpu/tiny | api/y", "alone gpu/tiny")
	machine.Down()
	return s, machine, network.LocalAddr().String(), received
}

// A request that has no other target wakes the machine, and waits until it is awake.
func TestRequestWakesTheMachine(t *testing.T) {
	t.Parallel()
	s, machine, _, packets := sleeper(t)
	answer := make(chan reply, 1)
	go func() { answer <- s.post("/v1/chat/completions", chat("alone", true)) }()
	want := append(bytes.Repeat([]byte{0xff}, 6), bytes.Repeat([]byte{0, 0x11, 0x22, 0x33, 0x44, 0xfe}, 16)...)
	if got := <-packets; !bytes.Equal(got, want) {
		t.Errorf("the packet is %x", got)
	}
	machine.Up(t)
	if got := <-answer; got.status != http.StatusOK || got.header.Get("X-Llm-Target") != "gpu/tiny" {
		t.Errorf("status %d from %q: %s", got.status, got.header.Get("X-Llm-Target"), got.body)
	}
}

// While the machine wakes up, the fallback answers.
func TestFallbackAnswersWhileTheMachineWakes(t *testing.T) {
	t.Parallel()
	s, machine, _, packets := sleeper(t)
	for range 3 {
		if got := s.post("/v1/chat/completions", chat("m", true)); got.header.Get("X-Llm-Target") != "api/y" {
			t.Fatalf("status %d from %q", got.status, got.header.Get("X-Llm-Target"))
		}
	}
	<-packets
	machine.Up(t)
	until(t, func() bool {
		return s.post("/v1/chat/completions", chat("m", true)).header.Get("X-Llm-Target") == "gpu/tiny"
	})
}

// Health checks alone do not wake a machine.
func TestHealthChecksDoNotWake(t *testing.T) {
	t.Parallel()
	s, machine, broadcast, packets := sleeper(t)
	s.gateway.delivery.Health.ProbeAll(t.Context())
	replica := s.upstreams[0].Replicas[0]
	if replica.Ready("tiny") {
		t.Error("the machine is not found to be down")
	}
	machine.Up(t)
	until(t, func() bool { return replica.Ready("tiny") }) // after at least one more health check
	marker, err := net.Dial("udp", broadcast)
	if err != nil {
		t.Fatal(err)
	}
	defer marker.Close()
	if _, err := marker.Write([]byte("end")); err != nil {
		t.Fatal(err)
	}
	if got := <-packets; string(got) != "end" {
		t.Errorf("a health check has sent %x", got)
	}
}
