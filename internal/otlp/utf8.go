package otlp

import (
	"encoding/binary"
	"unicode/utf8"
)

// nonASCII has the top bit of each of 8 bytes.
const nonASCII = 0x8080808080808080

// validUTF8 is utf8.Valid, quicker on the short ASCII strings that telemetry is made of.
func validUTF8(v []byte) bool {
	if len(v) < 8 {
		var or byte
		for _, c := range v {
			or |= c
		}
		return or < utf8.RuneSelf || utf8.Valid(v)
	}
	// The last 8 bytes may have been seen in part before.
	or := binary.LittleEndian.Uint64(v[len(v)-8:])
	for rest := v; len(rest) > 8; rest = rest[8:] {
		or |= binary.LittleEndian.Uint64(rest)
	}
	return or&nonASCII == 0 || utf8.Valid(v)
}
