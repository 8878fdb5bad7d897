package export

import "slices"

// HPACK (RFC 7541), as far as a client needs it: the header of a request is written without compression, that of a
// response is read whatever the peer does. golang.org/x/net has a package for it, which fills tables at every start
// of the program; these are constants.

// hpackTable is the size of the dynamic table that a peer may count on, in the sense of RFC 7541 §4.1: what
// SETTINGS_HEADER_TABLE_SIZE is where nobody sends it.
const hpackTable = 4096

// headerField is a line of a header, or a pseudo-header field such as :status.
type headerField struct{ name, value string }

// size is what a field counts in a table or a list (RFC 7541 §4.1, RFC 9113 §6.5.2).
func (f headerField) size() int { return len(f.name) + len(f.value) + 32 }

// appendField appends a field that no table may hold: it may be a secret (RFC 7541 §6.2.3).
func appendField(dst []byte, name, value string) []byte {
	dst = append(dst, 0x10)
	dst = append(appendHpackLength(dst, len(name)), name...)
	return append(appendHpackLength(dst, len(value)), value...)
}

// appendHpackLength appends the length of a string that is not compressed (RFC 7541 §5.1).
func appendHpackLength(dst []byte, n int) []byte {
	if n < 0x7f {
		return append(dst, byte(n))
	}
	dst = append(dst, 0x7f)
	for n -= 0x7f; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// hpackReader reads the header blocks of one connection, in their order.
type hpackReader struct {
	table []headerField // the dynamic table, the newest last
	size  int           // of it
	most  int           // of size, as the peer set it last

	// Of the block that is being read:
	b      []byte // what is left
	failed bool
}

// read passes the fields of a block on. It says whether the block was well-formed and, decompressed, no larger
// than limit: a table makes megabytes of one byte each.
func (r *hpackReader) read(block []byte, limit int, emit func(headerField)) bool {
	for r.b, r.failed = block, false; len(r.b) > 0; {
		f, isField := r.next()
		if r.failed {
			return false
		}
		if limit -= f.size(); limit < 0 {
			return false
		}
		if isField {
			emit(f)
		}
	}
	return true
}

// next reads a field, or a change of the table's size.
func (r *hpackReader) next() (f headerField, isField bool) {
	switch kind := r.b[0]; {
	case kind&0x80 != 0:
		return r.entry(r.int(7)), true
	case kind&0xc0 == 0x40:
		f = r.literal(6)
		r.table = append(r.table, f)
		r.size += f.size()
		r.evict()
		return f, true
	case kind&0xe0 == 0x20:
		if r.most = r.int(5); r.most > hpackTable {
			r.failed = true
		}
		r.evict()
		return headerField{}, false
	}
	return r.literal(4), true
}

// literal reads a field whose name may be in a table, at the index that the first bits say.
func (r *hpackReader) literal(bits int) (f headerField) {
	if i := r.int(bits); i != 0 {
		f.name = r.entry(i).name
	} else {
		f.name = r.string()
	}
	f.value = r.string()
	return f
}

// entry is what the tables have at index i.
func (r *hpackReader) entry(i int) headerField {
	switch newest := len(hpackStatic) + 1; {
	case i > 0 && i < newest:
		return hpackStatic[i-1]
	case i >= newest && i-newest < len(r.table):
		return r.table[len(r.table)-1-(i-newest)]
	}
	r.failed = true
	return headerField{}
}

// evict makes the table as small as it must be.
func (r *hpackReader) evict() {
	n := 0
	for ; r.size > r.most; n++ {
		r.size -= r.table[n].size()
	}
	r.table = slices.Delete(r.table, 0, n)
}

// int reads an integer that begins in the low bits of the first byte.
func (r *hpackReader) int(bits int) int {
	if len(r.b) == 0 {
		r.failed = true
		return 0
	}
	most := 1<<bits - 1
	v := int(r.b[0]) & most
	r.b = r.b[1:]
	if v < most {
		return v
	}
	for shift := 0; shift < 28 && len(r.b) > 0; shift += 7 {
		next := r.b[0]
		r.b = r.b[1:]
		v += int(next&0x7f) << shift
		if next&0x80 == 0 {
			return v
		}
	}
	r.failed = true
	return 0
}

func (r *hpackReader) string() string {
	compressed := len(r.b) > 0 && r.b[0]&0x80 != 0
	n := r.int(7)
	if r.failed || n > len(r.b) {
		r.failed = true
		return ""
	}
	s := r.b[:n]
	r.b = r.b[n:]
	if !compressed {
		return string(s)
	}
	text, ok := huffman(s)
	r.failed = r.failed || !ok
	return text
}

// huffman decodes a string. The code of RFC 7541, Appendix B, is canonical: of each length the codes follow on
// one another, beginning with twice the one after the last of the length before.
func huffman(b []byte) (text string, ok bool) {
	out := make([]byte, 0, 2*len(b))
	code, length, first, symbol := 0, 0, 0, 0 // the bits read so far; of their number, the first code and its symbol
	for _, octet := range b {
		for bit := 7; bit >= 0; bit-- {
			code = code<<1 | int(octet>>bit&1)
			if length++; length == len(huffmanCounts) {
				return "", false
			}
			first <<= 1
			count := int(huffmanCounts[length])
			if code-first < count {
				out = append(out, huffmanSymbols[symbol+code-first])
				code, length, first, symbol = 0, 0, 0, 0
				continue
			}
			first += count
			symbol += count
		}
	}
	// What is left must be the beginning of the longest code, less than an octet of it (RFC 7541 §5.2).
	return string(out), length < 8 && code == 1<<length-1
}

// huffmanCounts is how many codes have each length.
var huffmanCounts = [...]uint8{0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 3}

// huffmanSymbols are the symbols in the order of their codes.
const huffmanSymbols = "012aceiost %-./3456789=A_bdfghlmnpru:BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz&*,;XZ!\"()?'+|#>\x00$@[]~^}<`{" +
	"\\\xc3\xd0\x80\x82\x83\xa2\xb8\xc2\xe0\xe2\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6\x81" +
	"\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9" +
	"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc" +
	"\xbf\xc5\xe7\xef\x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed\xc7\xcf\xea\xeb\xc0\xc1\xc8\xc9\xca" +
	"\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa" +
	"\xfb\xfc\xfd\xfe\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a" +
	"\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9\x0a\x0d\x16"

// hpackStatic is the table of RFC 7541, Appendix A.
var hpackStatic = [...]headerField{
	{":authority", ""}, {":method", "GET"}, {":method", "POST"}, {":path", "/"}, {":path", "/index.html"},
	{":scheme", "http"}, {":scheme", "https"}, {":status", "200"}, {":status", "204"}, {":status", "206"},
	{":status", "304"}, {":status", "400"}, {":status", "404"}, {":status", "500"}, {"accept-charset", ""},
	{"accept-encoding", "gzip, deflate"}, {"accept-language", ""}, {"accept-ranges", ""}, {"accept", ""},
	{"access-control-allow-origin", ""}, {"age", ""}, {"allow", ""}, {"authorization", ""},
	{"cache-control", ""}, {"content-disposition", ""}, {"content-encoding", ""}, {"content-language", ""},
	{"content-length", ""}, {"content-location", ""}, {"content-range", ""}, {"content-type", ""},
	{"cookie", ""}, {"date", ""}, {"etag", ""}, {"expect", ""}, {"expires", ""}, {"from", ""},
	{"host", ""}, {"if-match", ""}, {"if-modified-since", ""}, {"if-none-match", ""}, {"if-range", ""},
	{"if-unmodified-since", ""}, {"last-modified", ""}, {"link", ""}, {"location", ""},
	{"max-forwards", ""}, {"proxy-authenticate", ""}, {"proxy-authorization", ""}, {"range", ""},
	{"referer", ""}, {"refresh", ""}, {"retry-after", ""}, {"server", ""}, {"set-cookie", ""},
	{"strict-transport-security", ""}, {"transfer-encoding", ""}, {"user-agent", ""}, {"vary", ""},
	{"via", ""}, {"www-authenticate", ""},
}
