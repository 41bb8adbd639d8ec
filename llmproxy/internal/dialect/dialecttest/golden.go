package dialecttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// EachStream runs a parallel subtest for each stream in a directory of the dialects' golden files, with what it becomes.
func EachStream(t *testing.T, dir string, test func(t *testing.T, in, golden []byte)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../dialect/testdata/golden", dir, "*.in.sse"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no streams, %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			in, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			golden, err := os.ReadFile(strings.Replace(file, ".in.", ".out.", 1))
			if err != nil {
				t.Fatal(err)
			}
			test(t, in, golden)
		})
	}
}
