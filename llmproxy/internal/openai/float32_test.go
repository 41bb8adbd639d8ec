package openai

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// checkFloat32 compares a number with what strconv makes of it, and reports whether it was read without strconv.
func checkFloat32(t *testing.T, number string) bool {
	t.Helper()
	checkUsual(t, number)
	got, n, ok := parseFloat32([]byte(number))
	if ok {
		compareFloat32(t, number[:n], math.Float32bits(got))
	}
	return ok
}

// checkUsual does the same with usualFloats. What follows the number looks like more digits of it.
func checkUsual(t *testing.T, number string) bool {
	t.Helper()
	floats, length := usualFloats(make([]byte, 0, 4), []byte(number+","+strings.Repeat("9", usualLength)))
	if len(floats) == 0 {
		return false
	}
	compareFloat32(t, strings.TrimLeft(number[:length-1], " "), binary.LittleEndian.Uint32(floats))
	return true
}

func compareFloat32(t *testing.T, number string, got uint32) {
	t.Helper()
	want, err := strconv.ParseFloat(number, 32)
	if err != nil || got != math.Float32bits(float32(want)) {
		t.Fatalf("%s became %x, want %x (%v)", number, got, math.Float32bits(float32(want)), err)
	}
}

func TestFloat32(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		number string
		length int // zero means that it is left to strconv
	}{
		{"0", 1}, {"-0", 2}, {"0.0", 3}, {"-0.000e9", 8}, {"0e999", 5}, {"1", 1}, {"-2.5", 4}, {"007", 3}, {"1.", 2}, {".5", 2},
		{"0.1", 3}, {"0.10000000149011612", 19}, {"-0.061687909066677094", 21}, {"12345678.90123456789", 20}, {"9999999999999999999", 19},
		{"3e-2", 4}, {"3E+2", 4}, {"1e48", 0}, {"1e38", 4}, {"1.5e-37", 7}, {"1234567890123456e-30", 20},
		{"1,2", 1}, {"0.5]", 3}, {"1 ", 1}, {"1x", 1}, {"1-2", 1}, {"0x1p3", 1},
		{"10000000000000000000", 0}, {"0.12345678901234567890", 0}, // too many digits
		{"16777217", 0}, {"0.50000002980232238769531250", 0}, {"1.00000005960464478", 0}, // between two float32s
		{"1e39", 0}, {"3.5e38", 0}, {"1e-38", 0}, {"1e-45", 0}, {"1e9999", 0}, {"1e-49", 0}, // too large or too small
		{"", 0}, {"-", 0}, {".", 0}, {"-.", 0}, {"e5", 0}, {"1e", 0}, {"1e-", 0}, {"+1", 0}, {"NaN", 0}, {"-Infinity", 0}, {"null", 0},
	} {
		_, n, ok := parseFloat32([]byte(test.number))
		if ok != (test.length > 0) || ok && n != test.length {
			t.Errorf("%q: length %d, %v; want %d", test.number, n, ok, test.length)
		}
		checkFloat32(t, test.number)
	}
}

// Numbers as servers write them: the shortest that make the same float32, or the same float64, or a fixed number of digits.
func TestFloat32OfServers(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	const count = 100_000
	left, unusual := 0, 0
	for range count {
		f := float32(random.NormFloat64() * 0.05)
		for _, number := range []string{
			strconv.FormatFloat(float64(f), 'g', -1, 32), strconv.FormatFloat(float64(f), 'g', -1, 64), strconv.FormatFloat(random.Float64(), 'g', -1, 64),
			fmt.Sprintf("%.8f", f), fmt.Sprintf("%.17g", f), strconv.FormatFloat(float64(math.Float32frombits(random.Uint32())), 'g', -1, 32),
		} {
			if !checkFloat32(t, number) && math.Abs(float64(f)) > 1e-30 {
				left++
			}
		}
		for _, bits := range []int{32, 64} {
			if !checkUsual(t, strconv.FormatFloat(float64(f), 'g', -1, bits)) {
				unusual++
			}
		}
	}
	if unusual > count/100 { // those with an exponent
		t.Errorf("%d numbers were read one by one", unusual)
	}
	if left > count/20 { // of any bits, some are NaN, infinite or very small
		t.Errorf("%d numbers were left to strconv", left)
	}
}

func TestUsualFloats(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]bool{
		"0.1": true, "-0.1": true, "0.0": true, "-0.0": true, "1.": true, "9.5": true, " 0.5": true, "0.12345678": true, "0.123456789": true,
		"0.1234567890123456": true, "0.12345678901234567": true, "-0.061687909066677094": true, "0.000012345678901234567890": true,
		"0.000000000000000012345678": true, "0.999999999999999999999999": true,
		"0.0000000000000000000000001": false, "0.9999999999999999999999999": false, // 25 digits
		"1": false, "-1": false, "-": false, "": false, "10.5": false, ".5": false, "-.5": false, "1e-3": false, "0.1e-3": false, "0.5 ": false,
		"0.1-2": false, "0.1.2": false, "0.1234567890123456.7": false, "--0.1": false, "+0.1": false, "0,1": false, "0.5]": false,
		"1.00000005960464478": false, // between two float32s
	} {
		if got := checkUsual(t, number); got != want {
			t.Errorf("%q: read %v, want %v", number, got, want)
		}
	}
	floats, length := usualFloats(make([]byte, 0, 8), []byte("0.5,-1.5, 2.5,3.5,"+strings.Repeat(" ", usualLength)))
	if len(floats) != 8 || length != len("0.5,-1.5,") {
		t.Errorf("%d bytes of floats and %d of the list, want as many as fit", len(floats), length)
	}
}

// Numbers close to the middle between two float32s are those that arithmetic gets wrong.
func TestFloat32NearTheMiddle(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for range 200_000 {
		f := math.Float32frombits(random.Uint32N(0x7f000000))
		middle := (float64(f) + float64(math.Nextafter32(f, math.MaxFloat32))) / 2
		for i := range 12 {
			d := math.Float64frombits(math.Float64bits(middle) + uint64(i) - 6)
			checkFloat32(t, strconv.FormatFloat(d, 'g', 14+i%6, 64))
		}
	}
}

// FuzzFloat32 compares the fast way with strconv.
func FuzzFloat32(f *testing.F) {
	for _, number := range []string{"-0.061687909066677094", "16777217", "1.00000005960464478", "3e-2", "0.000000000000000000001234567890123456789", "1e38", "0.12345678", "-9.5", "0.123456789012345678901234"} {
		f.Add([]byte(number))
	}
	f.Fuzz(func(t *testing.T, number []byte) { checkFloat32(t, string(number)) })
}

// BenchmarkEmbeddingEncoder converts numbers as servers write them: as the shortest that make the same float32, or the same float64, as Python
// does. No two of them are equally long for long.
func BenchmarkEmbeddingEncoder(b *testing.B) {
	for _, bits := range []int{32, 64} {
		b.Run(fmt.Sprintf("float%d", bits), func(b *testing.B) {
			const count = 38_400
			random := rand.New(rand.NewPCG(5, 6))
			answer := []byte(`{"data":[{"embedding":[1`)
			for range count {
				answer = strconv.AppendFloat(append(answer, ','), float64(float32(random.NormFloat64()*0.05)), 'g', -1, bits)
			}
			answer = append(answer, "]}]}"...)
			b.SetBytes(int64(len(answer)))
			var converted []byte
			for b.Loop() {
				var e EmbeddingEncoder
				var err error
				if converted, err = e.Append(converted[:0], answer); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*count), "ns/number")
		})
	}
}
