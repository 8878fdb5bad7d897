package export

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// The frames of RFC 9113 §6, and the flags that matter here.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePush         = 0x5
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindow       = 0x8
	frameContinuation = 0x9

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	frameHead = 9
	maxFrame  = 16 << 10 // bytes in a frame: what each side takes that has not said otherwise

	settingPush   = 0x2
	settingWindow = 0x4
	settingSize   = 6
)

// frame is what HTTP/2 is made of.
type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte // valid until the next frame is read
}

// appendFrameHead begins a frame whose payload has n bytes.
func appendFrameHead(dst []byte, n int, kind, flags byte, stream uint32) []byte {
	dst = append(dst, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	return binary.BigEndian.AppendUint32(dst, stream)
}

// setFrameSize puts the size of a frame's payload into its head.
func setFrameSize(head []byte, n int) {
	head[0], head[1], head[2] = byte(n>>16), byte(n>>8), byte(n)
}

// appendSetting appends one of the settings in a SETTINGS frame.
func appendSetting(dst []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(dst, id), value)
}

// appendWindow appends a WINDOW_UPDATE that lets the peer send n bytes more.
func appendWindow(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHead(dst, 4, frameWindow, 0, 0), uint32(n))
}

var (
	// What the peer sent is in none of them: it may be an echo of the request, secrets included.
	errNotHTTP2  = errors.New("the answer is not HTTP/2")
	errIsHTTP1   = errors.New("the answer is HTTP/1.1")
	errIsTLS     = errors.New("the answer is TLS")
	errMalformed = errors.New("the answer breaks the rules of HTTP/2")
)

// readFrame reads the next frame.
func (h *h2) readFrame() (frame, error) {
	head, err := h.c.br.Peek(frameHead)
	if !h.greeted {
		if err := greeting(head, err == nil); err != nil {
			return frame{}, err
		}
	}
	if err != nil {
		return frame{}, err
	}
	f := frame{kind: head[3], flags: head[4], stream: binary.BigEndian.Uint32(head[5:]) & hugeWindow}
	n := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	if n > maxFrame {
		return frame{}, errMalformed
	}
	h.c.br.Discard(frameHead)
	if cap(h.buf) < n {
		h.buf = make([]byte, n)
	}
	f.payload = h.buf[:n]
	_, err = io.ReadFull(h.c.br, f.payload)
	h.greeted = h.greeted || err == nil
	return f, err
}

// greeting looks at the first bytes that came: a server of HTTP/2 begins with its SETTINGS (RFC 9113 §3.4).
func greeting(b []byte, whole bool) error {
	switch {
	case len(b) >= 5 && string(b[:5]) == "HTTP/":
		return errIsHTTP1
	case len(b) >= 2 && b[0] == 0x15 && b[1] == 3: // an alert of any version
		return errIsTLS
	case whole && (b[3] != frameSettings || b[0] != 0):
		return errNotHTTP2
	}
	return nil
}

// content is the payload of a DATA or HEADERS frame without what it may be wrapped in.
func (f *frame) content() ([]byte, error) {
	b, pad := f.payload, 0
	if f.flags&flagPadded != 0 {
		if len(b) == 0 {
			return nil, errMalformed
		}
		b, pad = b[1:], int(b[0])
	}
	if f.kind == frameHeaders && f.flags&flagPriority != 0 {
		if len(b) < 5 {
			return nil, errMalformed
		}
		b = b[5:]
	}
	if pad > len(b) {
		return nil, errMalformed
	}
	return b[:len(b)-pad], nil
}

// h2Code is an error code of HTTP/2 (RFC 9113 §7).
type h2Code uint32

const (
	refusedStream      h2Code = 0x7
	cancelled          h2Code = 0x8
	enhanceYourCalm    h2Code = 0xb
	inadequateSecurity h2Code = 0xc
)

var h2Names = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
	"REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

func (c h2Code) String() string {
	if int64(c) >= int64(len(h2Names)) {
		return fmt.Sprintf("code %d", uint32(c))
	}
	return h2Names[c]
}

// resetError is the end of a request that the peer gave up without a status.
type resetError h2Code

func (e resetError) Error() string { return "the request was reset with " + h2Code(e).String() }

// code is what gRPC makes of it (gRPC over HTTP/2, "Errors").
func (e resetError) code() otlp.Code {
	switch h2Code(e) {
	case refusedStream:
		return otlp.Unavailable
	case cancelled:
		return otlp.Canceled
	case enhanceYourCalm:
		return otlp.ResourceExhausted
	case inadequateSecurity:
		return otlp.PermissionDenied
	}
	return otlp.Internal
}

// goAwayError is the end of a connection on which the peer does not answer any more.
type goAwayError h2Code

func (e goAwayError) Error() string { return "the connection was ended with " + h2Code(e).String() }
