package jsonspan

import "testing"

func TestTrimMark(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "{}": "{}", "\xef\xbb\xbf{}": "{}", "\xef\xbb\xbf": "", "\xef\xbb\xbf\xef\xbb\xbf{}": "\xef\xbb\xbf{}", " \xef\xbb\xbf{}": " \xef\xbb\xbf{}", "\xef\xbb{}": "\xef\xbb{}",
	} {
		if got, err := TrimMark([]byte(text)); err != nil || string(got) != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"\xff\xfe{\x00}\x00", "\xfe\xff\x00{\x00}"} {
		if _, err := TrimMark([]byte(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
