package export

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// readBlocks reads header blocks that follow one another on a connection.
func readBlocks(blocks ...[]byte) (fields []headerField, ok bool) {
	r := hpackReader{most: hpackTable}
	for _, b := range blocks {
		if !r.read(b, maxHead, func(f headerField) { fields = append(fields, f) }) {
			return fields, false
		}
	}
	return fields, true
}

// What x/net's encoder writes, with all its compression, is read as it was.
func TestHpackReadsEveryRepresentation(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var names, values []string
	for _, f := range hpackStatic {
		names, values = append(names, f.name), append(values, f.value)
	}
	for range 40 {
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		names, values = append(names, string(b)), append(values, string(b))
	}
	values = append(values, strings.Repeat("long ", 900)) // more than the table holds
	for range 50 {
		var out bytes.Buffer
		enc := hpack.NewEncoder(&out)
		var want []headerField
		var blocks [][]byte
		for range 20 {
			if r.IntN(5) == 0 {
				enc.SetMaxDynamicTableSize(uint32(r.IntN(hpackTable + 1)))
			}
			for range r.IntN(6) {
				f := headerField{names[r.IntN(len(names))], values[r.IntN(len(values))]}
				want = append(want, f)
				enc.WriteField(hpack.HeaderField{Name: f.name, Value: f.value, Sensitive: r.IntN(4) == 0})
			}
			blocks = append(blocks, bytes.Clone(out.Bytes()))
			out.Reset()
		}
		if got, ok := readBlocks(blocks...); !ok || !reflect.DeepEqual(got, want) {
			t.Fatalf("read %v (%v), want %v", got, ok, want)
		}
	}
}

func TestHpackWritesWhatOthersRead(t *testing.T) {
	for _, n := range []int{0, 1, 126, 127, 128, 254, 255, 300, 16383, 16384, 40000} {
		f := headerField{strings.Repeat("n", n), strings.Repeat("\x00v", n)}
		got, err := hpack.NewDecoder(hpackTable, nil).DecodeFull(appendField(nil, f.name, f.value))
		if err != nil || len(got) != 1 || got[0].Name != f.name || got[0].Value != f.value || !got[0].Sensitive {
			t.Errorf("%d bytes: %v, %v", n, got, err)
		}
	}
}

func TestHpackRefuses(t *testing.T) {
	for name, block := range map[string]string{
		"index 0":                        "\x80",
		"index of an empty table":        "\xbe",
		"name of an empty table":         "\x7f\x00\x01v",
		"no name":                        "\x40",
		"cut name":                       "\x40\x05ab",
		"no value":                       "\x40\x01a",
		"cut value":                      "\x40\x01a\x05b",
		"endless integer":                "\xff\xff\xff\xff\xff\xff\xff\x01",
		"cut integer":                    "\xff",
		"huge length":                    "\x40\x7f\xff\xff\xff\xff\x07a",
		"table larger than ours":         "\x3f\xe2\x1f",
		"end of string as a symbol":      "\x40\x01a\x84\xff\xff\xff\xff",
		"padding of zeros":               "\x40\x01a\x81\x18",
		"padding of a whole octet":       "\x40\x01a\x82\x1f\xff",
		"a bad name before a good value": "\x40\x81\x18\x01v",
	} {
		if fields, ok := readBlocks([]byte(block)); ok {
			t.Errorf("%s is read as %v", name, fields)
		}
	}
	// One entry of 4 KB, and a byte each time that it is wanted.
	bomb := append(appendHpackLength([]byte("\x40\x01a"), 4000), strings.Repeat("v", 4000)...)
	bomb = append(bomb, bytes.Repeat([]byte{0xbe}, 1000)...)
	if fields, ok := readBlocks(bomb); ok || len(fields) > maxHead/4000 {
		t.Errorf("a bomb is read as %d fields", len(fields))
	}
}

// FuzzHpack compares with x/net's decoder: what that takes is read as it reads it.
func FuzzHpack(f *testing.F) {
	f.Add([]byte("\x88\x40\x0bgrpc-status\x010\xbe"), []byte("\xbe\x20\x3f\xe1\x1f\x10\x01a\x81\x1f"))
	f.Add(appendField(nil, ":path", "/x"), []byte("\x5f\x8b\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		got, ok := readBlocks(first, second)
		size := 0
		for _, f := range got {
			size += f.size()
		}
		if size > 2*maxHead {
			t.Errorf("%d bytes of fields", size)
		}
		var want []headerField
		dec := hpack.NewDecoder(hpackTable, nil)
		for _, block := range [][]byte{first, second} {
			fields, err := dec.DecodeFull(block)
			if err != nil {
				return // x/net forbids more: a change of the table's size between fields
			}
			for _, f := range fields {
				want = append(want, headerField{f.Name, f.Value})
			}
		}
		if !ok && size < maxHead/2 || ok && !reflect.DeepEqual(got, want) {
			t.Errorf("%q, %q: got %v (%v), want %v", first, second, got, ok, want)
		}
	})
}
