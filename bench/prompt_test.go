package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

// Every request is JSON of about the size that its scenario promises.
func TestRequests(t *testing.T) {
	t.Parallel()
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			_, body, _ := bytes.Cut(sc.request(sc.size), []byte("\r\n\r\n"))
			if !json.Valid(body) {
				t.Errorf("not JSON: %.300s", body)
			}
			if len(body) > sc.size || len(body) < sc.size*95/100 {
				t.Errorf("%d bytes, want %d", len(body), sc.size)
			}
		})
	}
}

func TestDiffer(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]prompt{"text": text, "image": image, "short messages": shortMessages} {
		request := []byte(p(kilobyte))
		change, seen := differ(request), map[string]bool{}
		for range 100 {
			change()
			seen[string(request)] = true
		}
		if len(seen) != 100 || !json.Valid(append(append([]byte("["), request...), ']')) {
			t.Errorf("%s: %d different requests such as %.200s", name, len(seen), request)
		}
	}
}

// Two connections together ask for every model once.
func TestEachModel(t *testing.T) {
	t.Parallel()
	const models = 20
	v, seen := eachModel(models), map[string]bool{}
	for range 2 {
		request := []byte(`{"model":"` + numberedModel(0) + `"}`)
		change := v(request)
		for range models / 2 {
			change()
			seen[string(request)] = true
		}
	}
	if len(seen) != models {
		t.Errorf("%d models: %v", len(seen), seen)
	}
}
