package keys

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/caddy-llmproxy/caddy-llmproxy/llmproxy/internal/jsonspan"
)

// A File is the file of keys.
type File struct {
	// Schema says to editors what the file may hold.
	Schema string `json:"$schema,omitempty"`
	// Keys are the keys in it.
	Keys []*Entry `json:"keys"`
}

// ParseFile reads a file of keys and checks every key in it. A member that is not known is a mistake: a limit that is spelled
// wrongly must not be none.
func ParseFile(text []byte) (*File, error) {
	f := new(File)
	if err := decode(text, f); err != nil {
		return nil, fmt.Errorf("invalid key file: %w", err)
	}
	for _, e := range f.Keys {
		if e == nil {
			return nil, errors.New("a key is null")
		}
	}
	if _, err := Compile(f.Keys, nil); err != nil {
		return nil, err
	}
	return f, nil
}

// ParseEntry reads one key, written as in the file, and checks it but for its secret.
func ParseEntry(text []byte) (*Entry, error) {
	e := new(Entry)
	if err := decode(text, e); err != nil {
		return nil, fmt.Errorf("invalid key: %w", err)
	}
	if err := e.Check(); err != nil {
		return nil, fmt.Errorf("key %.80q: %w", e.Name, err)
	}
	return e, nil
}

// decode reads exactly one JSON value, which may have a byte order mark before it.
func decode(text []byte, into any) error {
	text, err := jsonspan.TrimMark(text)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); errors.Is(err, io.EOF) {
		return errors.New("it is empty")
	} else if err != nil {
		return harmless(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("unexpected data after the JSON value")
	}
	return nil
}

// harmless keeps a value of the file, which may be a secret, out of the message.
func harmless(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		field := cmp.Or(strings.ReplaceAll(wrong.Field, "Limits.", ""), "the whole")
		return fmt.Errorf("%s cannot be of type %s, at byte %d", field, wrong.Value, wrong.Offset)
	}
	return err
}

// JSON returns the file indented, with a final newline.
func (f *File) JSON() ([]byte, error) {
	if f.Keys == nil {
		f.Keys = []*Entry{}
	}
	text, err := json.MarshalIndent(f, "", "\t")
	if err != nil {
		return nil, fmt.Errorf("writing the keys: %w", err)
	}
	return append(text, '\n'), nil
}
