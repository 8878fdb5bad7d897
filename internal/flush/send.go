package flush

import (
	"context"
	"errors"

	"github.com/otlp-relay/otlp-relay/internal/buffer"
	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// sending delivers one batch of one signal and settles each of its records with the Recorder: delivered,
// dropped with a reason, or given back.
type sending struct {
	f     *Flusher
	route *Route
	sig   otlp.Signal

	records, bytes int // settled so far
}

// deliver sends items as one request, and as several where the destination refuses that one. It returns what
// may be sent again, in order, with the error that says so.
func (s *sending) deliver(ctx context.Context, items []buffer.Item) (rest []buffer.Item, err error) {
	if len(items) == 1 && items[0].Size > s.route.MaxBytes {
		return s.deliverSplit(ctx, items[0], s.route.MaxBytes)
	}
	err = s.send(ctx, items)
	var partial *otlp.PartialSuccess
	if err == nil || errors.As(err, &partial) {
		s.delivered(items, partial)
		return nil, nil
	}
	refusal := refused(err)
	switch {
	case refusal == nil:
		return items, err
	case len(items) == 1 && isTooLarge(refusal):
		return s.deliverSmaller(ctx, items[0])
	case len(items) == 1:
		s.dropped(items[0], otlp.DroppedRefused, err)
		return nil, nil
	case isTooLarge(refusal) || isMalformed(refusal):
		half := len(items) / 2
		return s.deliverEach(ctx, [][]buffer.Item{items[:half], items[half:]})
	}
	return s.deliverSingly(ctx, items, refusal)
}

// deliverEach delivers one group after the other; on a retryable failure the groups not tried yet come back
// with the rest of the one that failed.
func (s *sending) deliverEach(ctx context.Context, groups [][]buffer.Item) (rest []buffer.Item, err error) {
	for i, group := range groups {
		if rest, err = s.deliver(ctx, group); err == nil {
			continue
		}
		for _, g := range groups[i+1:] {
			rest = append(rest[:len(rest):len(rest)], g...)
		}
		return rest, err
	}
	return nil, nil
}

// deliverSingly sends the members of a refused request one by one, once, so that one bad payload does not
// take the others with it. Where two in a row get the very answer of the whole and that answer speaks of the
// destination rather than of the data (a wrong key, a wrong path), the rest would too: asking a thousand
// times would only be billed.
func (s *sending) deliverSingly(ctx context.Context, items []buffer.Item, whole *otlp.Error) ([]buffer.Item, error) {
	same := 0
	for i, it := range items {
		if same == 2 {
			s.dropped(it, otlp.DroppedRefused, whole)
			continue
		}
		err := s.send(ctx, []buffer.Item{it})
		var partial *otlp.PartialSuccess
		switch refusal := refused(err); {
		case err == nil || errors.As(err, &partial):
			s.delivered([]buffer.Item{it}, partial)
			same = 0
		case refusal == nil:
			return items[i:], err
		case isTooLarge(refusal):
			if rest, err := s.deliverSmaller(ctx, it); err != nil {
				return append(rest[:len(rest):len(rest)], items[i+1:]...), err
			}
		default:
			s.dropped(it, otlp.DroppedRefused, err)
			if refusal.HTTPStatus == whole.HTTPStatus && refusal.Code == whole.Code && aboutDestination(refusal) {
				same++
			}
		}
	}
	return nil, nil
}

// send packs items into one request and hands it to the sink.
func (s *sending) send(ctx context.Context, items []buffer.Item) error {
	p, err := s.f.pack.pack(items, s.route)
	if err != nil {
		// What cannot be packed now never can: a value without a protobuf form, or what the receiver should not
		// have let in.
		return &otlp.Error{Code: otlp.Internal, Err: err}
	}
	return s.route.Sink.Send(ctx, p)
}

// deliverSplit sends an item in parts of at most limit bytes; a record over that limit is dropped.
func (s *sending) deliverSplit(ctx context.Context, it buffer.Item, limit int) ([]buffer.Item, error) {
	parts, tooLarge, err := s.f.pack.split(it, limit)
	if err != nil {
		s.dropped(it, otlp.DroppedRefused, err)
		return nil, nil
	}
	left := it.Accounted
	if tooLarge > 0 {
		lost := it
		lost.Records = tooLarge
		if lost.Accounted = left; len(parts) > 0 {
			lost.Accounted = proportion(it.Accounted, tooLarge, it.Records)
		}
		left -= lost.Accounted
		s.dropped(lost, otlp.DroppedTooLarge, errTooLarge)
	}
	groups := make([][]buffer.Item, len(parts))
	for i, part := range parts {
		piece := it                                                             // with its place in the queue
		piece.Body, piece.Lent, piece.Compression = part.Body, false, otlp.None // a part may be the whole of it
		piece.Size, piece.Records = len(part.Body), part.Records
		if piece.Accounted = left; i < len(parts)-1 {
			piece.Accounted = min(left, proportion(it.Accounted, part.Records, it.Records))
		}
		left -= piece.Accounted
		groups[i] = []buffer.Item{piece}
	}
	return s.deliverEach(ctx, groups)
}

// deliverSmaller answers a refusal of one payload for its size: parts of about half its size. A record that does not fit into
// half may still be what the destination takes, so the parts are made as large as that needs.
func (s *sending) deliverSmaller(ctx context.Context, it buffer.Item) ([]buffer.Item, error) {
	if it.Records <= 1 || !it.Signal.Mergeable() {
		s.dropped(it, otlp.DroppedTooLarge, errTooLarge)
		return nil, nil
	}
	limit := it.Size / 2
	for it.Size-limit > 1 {
		_, tooLarge, err := s.f.pack.split(it, limit)
		if err != nil || tooLarge == 0 {
			break
		}
		limit += (it.Size - limit + 1) / 2
	}
	return s.deliverSplit(ctx, it, min(limit, it.Size-1))
}

// proportion is part/whole of n, rounded down.
func proportion(n, part, whole int) int { return int(int64(n) * int64(part) / int64(max(whole, 1))) }

var errTooLarge = errors.New("one record is larger than the destination's request limit")

// delivered settles items as delivered, but for what a partial success rejected. The bytes of rejected
// records are not known; they count as delivered.
func (s *sending) delivered(items []buffer.Item, partial *otlp.PartialSuccess) {
	records, bytes := s.settle(items...)
	rejected := 0
	if partial != nil {
		rejected = int(min(max(partial.Rejected, 0), int64(records)))
		s.f.cfg.Recorder.Dropped(s.sig, otlp.DroppedRejected, rejected, 0, partial)
	}
	s.f.cfg.Recorder.Delivered(s.sig, records-rejected, bytes)
}

func (s *sending) dropped(it buffer.Item, why otlp.Reason, cause error) {
	s.settle(it)
	s.f.cfg.Recorder.Dropped(s.sig, why, it.Records, it.Accounted, cause)
}

// dropUnsettled settles what a panic left of a batch.
func (s *sending) dropUnsettled(batch []buffer.Item, cause error) {
	before := *s
	records, bytes := s.settle(batch...)
	s.f.cfg.Recorder.Dropped(s.sig, otlp.DroppedPanic, records-before.records, bytes-before.bytes, cause)
}

// settle notes that items will not be sent again, and answers what they hold.
func (s *sending) settle(items ...buffer.Item) (records, bytes int) {
	records, bytes = settle(items)
	s.records += records
	s.bytes += bytes
	return records, bytes
}

// settle gives the copies of items up, and answers what they hold.
func settle(items []buffer.Item) (records, bytes int) {
	for i := range items {
		it := &items[i]
		records += it.Records
		bytes += it.Accounted
		if it.Copy != nil {
			it.Copy.Settle(it.Records)
		}
	}
	return records, bytes
}
