package jsonspan

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Valid text is read like by the functions that validate it, and no text makes Members or Elements fail.
func FuzzMembers(f *testing.F) {
	for _, text := range []string{
		`{}`, `[]`, ` { "a" : 1 , "b" : [ 1 , {} , "x" ] } `, `{"a":"\"","b":"\\","c":"\\\"","\"":null}`, `[-1.5e+3,true,false,null,"",[[]],{"":{}}]`, `{"a":{"b":"}"},"c":"]"}`,
		`{`, `{"a`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":}`, `["\`, `[}`, `[,]`, `{"a""b"}`, `"`, ``, `{"":"\\\\\""`,
	} {
		f.Add([]byte(text))
	}
	files, err := filepath.Glob("../dialect/testdata/golden/*/*.in.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no texts: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var got, want []string
		visitChecked(text, &got)
		if Walk(text, func(_, _ []byte) {}, func([]byte) {}) != nil {
			return
		}
		visitValidated(text, &want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-validated +checked:\n%s", diff)
		}
	})
}

func visitChecked(text []byte, seen *[]string) {
	*seen = append(*seen, fmt.Sprint(Members(text, func(key, value []byte) bool {
		*seen = append(*seen, string(key)+":"+string(value))
		visitChecked(value, seen)
		return len(*seen) < 1000
	})))
	*seen = append(*seen, fmt.Sprint(Elements(text, func(value []byte) bool {
		*seen = append(*seen, string(value))
		visitChecked(value, seen)
		return len(*seen) < 1000
	})))
}

func visitValidated(text []byte, seen *[]string) {
	*seen = append(*seen, fmt.Sprint(EachMember(text, func(key, value []byte) bool {
		*seen = append(*seen, string(key)+":"+string(value))
		visitValidated(value, seen)
		return len(*seen) < 1000
	}) == nil))
	*seen = append(*seen, fmt.Sprint(EachElement(text, func(value []byte) bool {
		*seen = append(*seen, string(value))
		visitValidated(value, seen)
		return len(*seen) < 1000
	}) == nil))
}

func BenchmarkMembers(b *testing.B) {
	text := []byte(`{"messages":[{"role":"user","content":"` + strings.Repeat("The quick brown fox\\njumps over the lazy dog. ", 23) + `"}],"model":"m"}`)
	for _, way := range []struct {
		name  string
		visit func()
	}{
		{"validated", func() { _ = EachMember(text, func(_, _ []byte) bool { return true }) }},
		{"checked before", func() { Members(text, func(_, _ []byte) bool { return true }) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				way.visit()
			}
		})
	}
}
