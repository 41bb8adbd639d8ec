package http1

import (
	"io"
	"net"
	"runtime"
	"testing"
)

// TestStreamMemory checks that an open stream holds no buffer.
func TestStreamMemory(t *testing.T) {
	const streams = 200
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var served []net.Conn
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nServer: llama.cpp\r\n" +
		"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n")
	request, event := make([]byte, 4<<10), make([]byte, 64)
	tr := transport(t)
	bodies := make([]io.ReadCloser, 0, streams)
	open := func() {
		answered := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if err == nil {
				served = append(served, c)
				if _, err = c.Read(request); err == nil {
					_, err = c.Write(answer)
				}
			}
			answered <- err
		}()
		res, err := tr.RoundTrip(post(t, "http://"+l.Addr().String(), "{}"))
		if err := <-answered; err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, res.Body)
		if n, err := res.Body.Read(event); string(event[:n]) != "data: a\n\n" || err != nil {
			t.Fatalf("got %q, %v", event[:n], err)
		}
	}
	t.Cleanup(func() {
		for i, body := range bodies {
			body.Close()
			served[i].Close()
		}
	})
	open()
	before := inUse()
	for range streams - 1 {
		open()
	}
	per := (inUse() - before) / (streams - 1)
	t.Logf("%d bytes a stream", per)
	// This includes the request and the server's end of the connection.
	if per > 5<<10 {
		t.Errorf("an open stream holds %d bytes", per)
	}
	runtime.KeepAlive(bodies)
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
