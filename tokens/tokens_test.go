package tokens

import (
	"reflect"
	"testing"
)

// Every field must be in Counts, or it would be lost wherever a usage is added up or stored.
func TestCountsHasEveryField(t *testing.T) {
	t.Parallel()
	var u Usage
	for i, n := range u.Counts() {
		*n = int64(i + 1)
	}
	fields := reflect.ValueOf(u)
	if fields.NumField() != countsOf {
		t.Fatalf("Usage has %d fields, Counts has %d", fields.NumField(), countsOf)
	}
	for i := range fields.NumField() {
		if fields.Field(i).Int() == 0 {
			t.Errorf("Counts does not have %s", fields.Type().Field(i).Name)
		}
	}
	sum := u
	sum.Add(u)
	for i, n := range sum.Counts() {
		if *n != 2*int64(i+1) {
			t.Errorf("count %d is %d after Add, want %d", i, *n, 2*(i+1))
		}
	}
	if u.Total() != u.Input+u.Output {
		t.Errorf("the total is %d", u.Total())
	}
}

// Stored usage of older versions begins with these counts.
func TestOrderOfCounts(t *testing.T) {
	t.Parallel()
	u := Usage{Input: 1, Output: 2, Cached: 3, Reasoning: 4}
	counts := u.Counts()
	for i, n := range counts[:4] {
		if *n != int64(i+1) {
			t.Errorf("count %d is %d", i, *n)
		}
	}
}
