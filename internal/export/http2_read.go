package export

import (
	"encoding/binary"
	"errors"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"
)

// read reads the answer to the last request: its body, and its header and trailer as one. An answer that breaks off
// where its verdict is known is as good as whole.
func (h *h2) read() (*response, error) {
	defer h.end()
	h.c.left = maxHead + maxBody + maxChunking
	r := &response{header: http.Header{}}
	for {
		last, err := h.readPart(r)
		switch {
		case last:
			r.keep = !h.leaving && h.stream < maxStream
			return r, nil
		case err == nil:
		case r.status != 0 && (r.status != http.StatusOK || r.header["Grpc-Status"] != nil):
			return r, nil
		default:
			return nil, err
		}
	}
}

// readPart reads a frame, and says whether the answer ends with it.
func (h *h2) readPart(r *response) (last bool, err error) {
	h.acknowledge()
	f, err := h.readFrame()
	switch {
	case err != nil:
		return false, err
	case f.stream != h.stream:
		return false, h.handle(f)
	}
	switch f.kind {
	case frameHeaders:
		err = h.readHeader(f, r)
	case frameData:
		err = h.readBody(f, r)
	case frameReset:
		if len(f.payload) == 4 {
			code := h2Code(binary.BigEndian.Uint32(f.payload))
			h.c.answered = code != refusedStream // which means that nobody has looked at the request
			return false, resetError(code)
		}
		err = errMalformed
	default:
		return false, h.handle(f)
	}
	h.c.answered = true
	if last = f.flags&flagEndStream != 0; last && r.status == 0 && err == nil {
		err = errMalformed
	}
	return last && err == nil, err
}

// readHeader reads a header or a trailer, which begins in f.
func (h *h2) readHeader(f frame, r *response) error {
	block, err := f.content()
	if f.flags&flagEndHeaders == 0 {
		block = slices.Clone(block) // reading on overwrites it
	}
	for err == nil && f.flags&flagEndHeaders == 0 {
		if f, err = h.readFrame(); err == nil && (f.kind != frameContinuation || f.stream != h.stream) {
			err = errMalformed
		}
		block = append(block, f.payload...)
	}
	if err != nil {
		return err
	}
	status := 0
	ok := h.fields.read(block, maxHead, func(line headerField) {
		switch {
		case line.name == ":status":
			status, _ = strconv.Atoi(line.value)
		case line.name != "" && line.name[0] != ':':
			r.header.Set(line.name, line.value)
		}
	})
	switch {
	case !ok:
		return errMalformed
	case r.status != 0: // a trailer
	case status >= 200 && status <= 999:
		r.status = status
	case status >= 100 && status < 200 && status != http.StatusSwitchingProtocols:
		clear(r.header) // informational: the final header is yet to come
	default:
		return errMalformed
	}
	return nil
}

// readBody reads a piece of the body.
func (h *h2) readBody(f frame, r *response) error {
	h.taken += len(f.payload)
	data, err := f.content()
	if err != nil || r.status == 0 {
		return errMalformed
	}
	room := maxBody + len(message{}.prefix) - len(r.body)
	r.body = append(r.body, data[:min(len(data), room)]...)
	if len(data) > room {
		return errAnswerTooLarge
	}
	return nil
}

// handle does what a frame asks for that is no part of an answer. What it makes us say waits for the next write.
func (h *h2) handle(f frame) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	ok := true
	switch f.kind {
	case frameSettings:
		ok = h.settingsLocked(f)
	case frameWindow:
		ok = h.windowLocked(f)
	case framePing:
		if ok = len(f.payload) == 8; ok && f.flags&flagAck == 0 {
			h.control = append(appendFrameHead(h.control, 8, framePing, flagAck, 0), f.payload...)
		}
	case frameGoAway:
		if ok = len(f.payload) >= 8; ok {
			h.leaving = true
			if last := binary.BigEndian.Uint32(f.payload) & hugeWindow; last < h.stream {
				return goAwayError(binary.BigEndian.Uint32(f.payload[4:]))
			}
		}
	case frameData, frameHeaders, framePush, frameContinuation:
		ok = false // of no request that is open
	}
	if !ok || len(h.control) > maxControl {
		return errMalformed
	}
	return nil
}

// settingsLocked takes the peer's settings, of which only the window concerns us: no request uses more than
// the least of the other limits. The caller holds mu.
func (h *h2) settingsLocked(f frame) bool {
	if f.flags&flagAck != 0 {
		return true
	}
	b := f.payload
	for ; len(b) >= settingSize; b = b[settingSize:] {
		if binary.BigEndian.Uint16(b) != settingWindow {
			continue
		}
		v := int64(binary.BigEndian.Uint32(b[2:]))
		h.request += v - h.initial
		h.initial = v
		h.more.Signal()
		if v > hugeWindow || h.request > hugeWindow {
			return false
		}
	}
	h.control = appendFrameHead(h.control, 0, frameSettings, flagAck, 0)
	h.urgent = true
	return len(b) == 0
}

// windowLocked lets us send more. The caller holds mu.
func (h *h2) windowLocked(f frame) bool {
	if len(f.payload) != 4 {
		return false
	}
	n := int64(binary.BigEndian.Uint32(f.payload) & hugeWindow)
	switch f.stream {
	case 0:
		h.all += n
	case h.stream:
		h.request += n
	}
	h.more.Signal()
	return n > 0 && h.all <= hugeWindow && h.request <= hugeWindow
}

// acknowledge acknowledges the peer's settings, as it may wait for that, before more is waited for.
func (h *h2) acknowledge() {
	h.mu.Lock()
	due := h.urgent && !h.writing && h.c.br.Buffered() == 0
	h.mu.Unlock()
	if due {
		h.c.Write(h.takeControl(h.c.buf[:0])) // an error shows in reading
	}
}

// alive is conn's: it reads what the peer has sent since the last exchange.
func (h *h2) alive() bool {
	h.c.left = maxHead
	for !h.leaving {
		switch state := peek(h.c.raw); {
		case state == dead:
			return false
		case state == quiet && h.c.br.Buffered() == 0:
			return true
		case !h.digest():
			return false
		}
	}
	return false
}

// digest reads a frame that is already there, or what TLS has sent for its own ends.
func (h *h2) digest() bool {
	h.c.SetReadDeadline(time.Now().Add(digestTime))
	_, err := h.c.br.Peek(1)
	if errors.Is(err, os.ErrDeadlineExceeded) && h.c.Conn != h.c.raw {
		err = nil
	} else if err == nil {
		var f frame
		if f, err = h.readFrame(); err == nil {
			err = h.handle(f)
		}
	}
	return err == nil && h.c.SetReadDeadline(time.Time{}) == nil
}
