package receiver

import "time"

const (
	// readBuffer is how much is read at once of what an HTTP/2 client says, in bytes: a usual request.
	readBuffer = 8 << 10

	// maxHeld is how much is held back before it is written, in bytes.
	maxHeld = 4 << 10

	// holdTime is how long half an answer is held back. Usually the other half comes within microseconds; it does
	// not where the client lets the receiver send nothing.
	holdTime = 5 * time.Millisecond

	// maxCredit is how much of windows may be held back, in bytes. It is less than one stream's: so the client can
	// send more of a request that is being read, whatever others have left unread.
	maxCredit = streamWindow / 2
)

// Read reads what the client says. net/http asks for an HTTP/2 frame's header and its payload one after the other,
// without a buffer of its own.
func (c *conn) Read(b []byte) (int, error) {
	if len(c.unread) == 0 {
		if c.preface < len(clientPreface) || len(b) >= readBuffer {
			return c.read(b)
		}
		if c.buffer == nil {
			c.buffer = new([readBuffer]byte)
		}
		n, err := c.read(c.buffer[:])
		if n == 0 {
			return 0, err
		}
		c.unread = c.buffer[:n] // after an error the next read fails as well
	}
	n := copy(b, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

// read reads from the socket, and acknowledges what it read.
func (c *conn) read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && c.raw != nil {
		acknowledge(c.raw)
	}
	if c.preface >= 0 {
		c.heard(b[:n])
	}
	return n, err
}

// heard follows what the client says.
func (c *conn) heard(b []byte) {
	for len(b) > 0 && c.preface < len(clientPreface) {
		if b[0] != clientPreface[c.preface] {
			c.preface = -1
			return
		}
		c.preface++
		b = b[1:]
	}
	for {
		rest, whole := c.in.next(b)
		if !whole {
			return
		}
		b = rest
		switch c.in.kind() {
		case frameHeaders:
			c.begun(c.in.stream())
		case frameReset:
			c.ended(c.in.stream())
		}
	}
}

// Write writes to the client, and takes note of the answers that are written whole.
//
// net/http writes the head, the body and the trailer of an answer one after the other, and often lets the client send
// more before. Each write would cost both sides a system call and the client a wake-up: together 20 to 40 % of a
// call's CPU time. So what is of no use to the client by itself is held back until the end of an answer comes,
// or anything else that it should know; or until the end is overdue, because the client left no room for it.
func (c *conn) Write(b []byte) (int, error) {
	if c.preface != len(clientPreface) {
		return c.Conn.Write(b)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.held = append(c.held, b...)
	switch c.said(b) {
	case nothingYet:
	case halfAnAnswer:
		if c.overdue == nil {
			c.overdue = time.AfterFunc(holdTime, c.writeOverdue)
		} else {
			c.overdue.Reset(holdTime)
		}
	default:
		if err := c.writeHeldLocked(); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// urgency is whether bytes to be written may be held back.
type urgency int

const (
	nothingYet   urgency = iota // the client may know it later
	halfAnAnswer                // the rest is on its way
	now
)

// said follows what is to be written.
func (c *conn) said(b []byte) (u urgency) {
	for {
		rest, whole := c.out.next(b)
		if !whole {
			break
		}
		b = rest
		u = max(u, c.saidFrame())
	}
	if c.out.have > 0 || len(c.held) > maxHeld {
		return now
	}
	return u
}

// saidFrame takes note of a frame.
func (c *conn) saidFrame() urgency {
	switch f := &c.out; f.kind() {
	case frameData, frameHeaders:
		switch {
		case !f.has(flagEndStream):
			return halfAnAnswer
		case f.kind() == frameHeaders && !f.has(flagEndHeaders):
			c.ending = f.stream()
		default:
			c.finished = append(c.finished, f.stream())
		}
	case frameContinuation:
		if c.ending != 0 && f.has(flagEndHeaders) {
			c.finished = append(c.finished, c.ending)
			c.ending = 0
		}
	case frameReset:
		c.finished = append(c.finished, f.stream())
	case frameGoAway:
		c.leaving(f.word())
	case frameWindow:
		if c.credit += f.word(); c.credit <= maxCredit {
			return nothingYet
		}
	}
	return now
}

// writeHeldLocked writes what is held back; the answers that end in it are then answered.
func (c *conn) writeHeldLocked() error {
	if c.overdue != nil {
		c.overdue.Stop()
	}
	_, err := c.Conn.Write(c.held)
	c.held, c.credit = c.held[:0], 0
	for _, stream := range c.finished {
		c.ended(stream)
	}
	c.finished = c.finished[:0]
	return err
}

// writeOverdue writes half an answer, whose other half does not come. If that fails, so will what comes next.
func (c *conn) writeOverdue() {
	c.writing.Lock()
	defer c.writing.Unlock()
	if len(c.held) > 0 {
		c.writeHeldLocked()
	}
}
