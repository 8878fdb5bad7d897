package flush

import (
	"fmt"
	"sync"

	"github.com/otlp-relay/otlp-relay/internal/buffer"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// keepScratch is the most scratch memory kept between flushes: a burst must not hold memory for ever that
// the function could use.
const keepScratch = 1 << 20

// packer makes requests of queued payloads. The signals share it, and so its encoders and scratch memory:
// they are large, and below two vCPUs nothing is gained by compressing two requests at once.
type packer struct {
	mu      sync.Mutex
	enc     otlp.Compressor
	dec     otlp.Decompressor
	scratch []byte
	out     [otlp.SignalCount][]byte // a signal's compressed request, as long as that is under way
}

// pack merges items into one payload as the route wants it. One payload that is so already leaves as it is.
func (k *packer) pack(items []buffer.Item, r *Route) (otlp.Payload, error) {
	p, to := items[0].Payload, r.Compression
	transcode := r.NoJSON && p.Encoding == otlp.JSON
	if len(items) == 1 && p.Compression == to && !transcode {
		return p, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	begin(items)
	defer end(items)
	raw, err := k.rawLocked(items)
	if err == nil && transcode {
		raw, err = otlp.AppendProtobuf(nil, p.Signal, raw)
		p.Encoding = otlp.Protobuf
	}
	if err != nil {
		return otlp.Payload{}, err
	}
	p.Size, p.Records = len(raw), 0
	for _, it := range items {
		p.Records += it.Records
	}
	if p.Body, p.Compression = raw, otlp.None; to != otlp.None {
		p.Body, err = k.enc.Append(k.roomLocked(p.Signal, len(raw)/4+64), raw, to)
		p.Compression = to
		k.keepLocked(p.Signal, p.Body)
	} else {
		k.scratch = nil // it may be the payload's now
	}
	if err != nil {
		return otlp.Payload{}, fmt.Errorf("compress %s: %w", p.Signal, err)
	}
	return p, nil
}

// roomLocked is memory for a signal's compressed request of about n bytes: that of its last one, which is over.
func (k *packer) roomLocked(sig otlp.Signal, n int) []byte {
	if room := k.out[sig]; cap(room) >= n {
		return room[:0]
	}
	return make([]byte, 0, n)
}

func (k *packer) keepLocked(sig otlp.Signal, out []byte) {
	if k.out[sig] = nil; cap(out) <= keepScratch/4 {
		k.out[sig] = out
	}
}

// rawLocked is the uncompressed request that holds all items. It may be scratch memory, valid until the next
// call, or the body of the only item.
func (k *packer) rawLocked(items []buffer.Item) ([]byte, error) {
	if len(items) == 1 && items[0].Compression == otlp.None {
		return items[0].Body, nil
	}
	size := 0
	for _, it := range items {
		size += it.Size
	}
	buf := k.scratch[:0]
	if cap(buf) < size {
		buf = make([]byte, 0, size+64)
	}
	var err error
	if len(items) == 1 {
		buf, err = k.dec.Append(buf, items[0].Body, items[0].Compression, items[0].Size)
	} else {
		payloads := make([]otlp.Payload, len(items))
		for i, it := range items {
			payloads[i] = it.Payload
		}
		buf, err = otlp.Merge(buf, payloads, &k.dec)
	}
	if err != nil {
		return nil, fmt.Errorf("merge %d requests: %w", len(items), err)
	}
	if k.scratch = nil; cap(buf) <= keepScratch {
		k.scratch = buf
	}
	return buf, nil
}

// split cuts an item into requests of at most limit bytes.
func (k *packer) split(it buffer.Item, limit int) (parts []otlp.Part, tooLarge int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	begin([]buffer.Item{it})
	defer end([]buffer.Item{it})
	raw := it.Body
	if it.Compression != otlp.None {
		// Not scratch memory: a part may be the whole body.
		if raw, err = k.dec.Append(make([]byte, 0, it.Size), it.Body, it.Compression, it.Size); err != nil {
			return nil, 0, fmt.Errorf("split %s: %w", it.Signal, err)
		}
	}
	return otlp.Split(it.Signal, it.Encoding, raw, limit)
}

// begin and end enclose the work on items: here is most of the memory that a flush takes.
func begin(items []buffer.Item) {
	for i := range items {
		if c := items[i].Copy; c != nil {
			c.Begin()
		}
	}
}

func end(items []buffer.Item) {
	for i := range items {
		if c := items[i].Copy; c != nil {
			c.End()
		}
	}
}
