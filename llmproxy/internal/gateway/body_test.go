package gateway

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestBadInput(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	s.config.MaxBody = 1 << 20
	s.serve("m u")
	bomb := `{"model":"m","x":"` + strings.Repeat("x", 2<<20) + `"}`
	for _, test := range []struct {
		name, body string
		status     int
		header     []string
	}{
		{"duplicate model", `{"model":"m","model":"x"}`, 400, nil},
		{"other case", `{"model":"m","Model":"x"}`, 400, nil},
		{"escaped", `{"model":"m","mod\u0065l":"x"}`, 400, nil},
		{"long s", `{"model":"m","ſtream":true}`, 400, nil},
		{"byte order mark", "\xef\xbb\xbf" + chat("m", false), 400, nil},
		{"trailing data", chat("m", false) + "{}", 400, nil},
		{"truncated", `{"model":"m","messages":[`, 400, nil},
		{"empty", ``, 400, nil},
		{"an array", `[]`, 400, nil},
		{"model is a number", `{"model":1}`, 400, nil},
		{"no model", `{"messages":[]}`, 400, nil},
		{"model is null", `{"model":null}`, 400, nil},
		{"invalid UTF-8", "{\"model\":\"m\",\"x\":\"\xff\"}", 400, nil},
		{"deep", `{"model":"m","x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, 400, nil},
		{"100,000 arrays deep", `{"model":"m","x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, 400, nil},
		{"100,000 objects deep", `{"model":"m","x":` + strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000) + `}`, 400, nil},
		{"100,000 brackets", strings.Repeat("[", 100_000), 400, nil},
		{"unknown model", chat("nope", false), 404, nil},
		{"too large", bomb, 413, nil},
		{"too large when unpacked, gzip", gzipped(bomb), 413, []string{"Content-Encoding", "gzip"}},
		{"too large when unpacked, zstd", zstandard(t, bomb), 413, []string{"Content-Encoding", "zstd"}},
		{"packed twice", gzipped(gzipped(chat("m", false))), 400, []string{"Content-Encoding", "gzip"}},
		{"packed twice, and said so", gzipped(gzipped(chat("m", false))), 415, []string{"Content-Encoding", "gzip, gzip"}},
		{"gzip cut off", gzipped(chat("m", false))[:30], 400, []string{"Content-Encoding", "gzip"}},
		{"an unreadable type", chat("m", false), 415, []string{"Content-Type", "application/json; ;"}},
		{"wrong type", chat("m", false), 415, []string{"Content-Type", "application/xml"}},
		{"form where JSON is needed", chat("m", false), 415, []string{"Content-Type", "multipart/form-data; boundary=x"}},
		{"unknown coding", chat("m", false), 415, []string{"Content-Encoding", "br"}},
		{"not gzip", chat("m", false), 400, []string{"Content-Encoding", "gzip"}},
		{"not zstd", chat("m", false), 400, []string{"Content-Encoding", "zstd"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := s.post("/v1/chat/completions", test.body, test.header...)
			if got.status != test.status || !strings.HasPrefix(got.body, `{"error":{"message":"`) || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("status %d, want %d; %s", got.status, test.status, got.body)
			}
		})
	}
	if n := len(fake.Requests()); n != 0 {
		t.Errorf("%d bad requests were forwarded", n)
	}
}

func gzipped(text string) string {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprint(z, text)
	z.Close()
	return packed.String()
}

func zstandard(t testing.TB, text string) string {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(enc.EncodeAll([]byte(text), nil))
}

func TestCompressedBodies(t *testing.T) {
	t.Parallel()
	s, fake := one(t, "openai", nil)
	s.config.MaxBody = 1 << 16
	s.serve("m u")
	for _, test := range []struct {
		name, coding, body string
		status             int
	}{
		{"gzip", "gzip", gzipped(chat("m", false)), 200},
		{"zstd", "zstd", zstandard(t, chat("m", false)), 200},
		{"a small body that unpacks to a large one", "zstd", zstandard(t, `{"model":"m","x":"`+strings.Repeat("x", 1<<20)+`"}`), 413},
	} {
		if got := s.post("/v1/chat/completions", test.body, "Content-Encoding", test.coding); got.status != test.status {
			t.Errorf("%s: status %d, want %d: %s", test.name, got.status, test.status, got.body)
		}
	}
	for _, seen := range fake.Requests() {
		if string(seen.Body) != chat("m", false) {
			t.Errorf("the upstream got %q", seen.Body)
		}
	}
}

func TestFormsKeepTheirFile(t *testing.T) {
	for _, size := range []int{10, 3 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			s, fake := one(t, "openai", nil)
			s.serve("m u/whisper-large")
			var body bytes.Buffer
			form := multipart.NewWriter(&body)
			file, _ := form.CreateFormFile("file", "a.wav")
			file.Write(bytes.Repeat([]byte{0, 1, '\r', '\n', '-', '-'}, size/6+1))
			form.WriteField("model", "m")
			form.WriteField("language", "en")
			form.Close()
			want := strings.Replace(body.String(), "\r\n\r\nm\r\n", "\r\n\r\nwhisper-large\r\n", 1)
			got := s.post("/v1/audio/transcriptions", body.String(), "Content-Type", form.FormDataContentType())
			if got.status != http.StatusOK {
				t.Fatalf("status %d: %s", got.status, got.body)
			}
			if string(fake.Requests()[0].Body) != want {
				t.Error("the form was changed elsewhere than at its model")
			}
		})
	}
}
