package upstream

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestNewWakeUp(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ mac, to, want string }{
		{"00:11:22:33:44:55", "", "255.255.255.255:9"},
		{"00-11-22-33-44-55", "192.168.1.255", "192.168.1.255:9"},
		{"0011.2233.4455", "192.168.1.255:7", "192.168.1.255:7"},
		{"00:11:22:33:44", "", ""},
		{"00:00:00:00:fe:80:00:00", "", ""}, // of 8 bytes
		{"gpu", "", ""},
		{"00:11:22:33:44:55", "lan", ""},
		{"00:11:22:33:44:55", "192.168.1.255:x", ""},
	} {
		w, err := NewWakeUp(test.mac, test.to)
		switch {
		case (err == nil) != (test.want != ""):
			t.Errorf("%s %s: error %v", test.mac, test.to, err)
		case err == nil && (w.to.String() != test.want || len(w.packet) != 102):
			t.Errorf("%s %s: %d bytes to %s", test.mac, test.to, len(w.packet), w.to)
		}
	}
}

// A machine is woken for a request, and again while that is not long ago, but not all the time.
func TestWakeUpIsBounded(t *testing.T) {
	t.Parallel()
	network, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer network.Close()
	synctest.Test(t, func(t *testing.T) {
		w, err := NewWakeUp("00:11:22:33:44:55", network.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		sent := func(send func()) bool {
			before := w.sent
			send()
			return w.sent != before
		}
		wake := func() {
			if err := w.Wake(); err != nil {
				t.Error(err)
			}
		}
		if sent(w.Again) {
			t.Error("woken without a request")
		}
		if !sent(wake) || sent(wake) {
			t.Error("not woken once by two requests at once")
		}
		time.Sleep(wakeEvery)
		if !sent(w.Again) || sent(w.Again) {
			t.Error("not woken once more")
		}
		time.Sleep(wakeFor)
		if sent(w.Again) {
			t.Error("woken long after the last request")
		}
		if !sent(wake) {
			t.Error("not woken by another request")
		}
	})
	(*WakeUp)(nil).Again()
	if err := (*WakeUp)(nil).Wake(); err != nil {
		t.Error(err)
	}
}
