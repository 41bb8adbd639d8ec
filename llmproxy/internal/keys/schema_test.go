package keys

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// members are the names that the schema describes for a key.
func members(t *testing.T, schema []byte) []string {
	t.Helper()
	var s struct {
		Properties struct {
			Keys struct {
				Items struct {
					AdditionalProperties *bool
					Properties           map[string]any
				}
			}
		}
	}
	if err := json.Unmarshal(schema, &s); err != nil {
		t.Fatal(err)
	}
	if additional := s.Properties.Keys.Items.AdditionalProperties; additional == nil || *additional {
		t.Error("the schema lets unknown members pass")
	}
	return slices.Sorted(maps.Keys(s.Properties.Keys.Items.Properties))
}

// described are the names that an Entry has in JSON.
func described() (names []string) {
	for _, of := range []reflect.Type{reflect.TypeFor[Entry](), reflect.TypeFor[Limits]()} {
		for i := range of.NumField() {
			if name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ","); name != "" {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}
