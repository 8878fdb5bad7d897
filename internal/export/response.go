package export

import (
	"bufio"
	"errors"
	"io"
	"net/http"
)

var (
	// What the peer sent is in neither: it may be an echo of the request, secrets included.
	errNotHTTP  = errors.New("the answer is not HTTP/1.1")
	errUpgraded = errors.New("the answer switches to another protocol")
)

// response is what came back: whatever its status, the backend has spoken.
type response struct {
	status int
	header http.Header
	body   []byte // at most maxBody bytes of it
	keep   bool   // it was read to its end, and the peer keeps the connection
}

// receive reads a response. A body that cannot be read whole is cut: the status is what counts.
func (c *conn) receive() (*response, error) {
	c.left = maxHead
	res, err := readHead(c.br)
	switch {
	case errors.Is(err, errUpgraded):
		return nil, err
	case err != nil && c.readErr != nil:
		return nil, c.readErr
	case err != nil && c.left <= 0:
		return nil, errAnswerTooLarge
	case err != nil:
		return nil, errNotHTTP
	}
	c.left = maxBody + maxChunking
	r := &response{status: res.StatusCode, header: res.Header}
	r.body, err = io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	r.keep = err == nil && len(r.body) <= maxBody && !res.Close && res.ProtoAtLeast(1, 1)
	r.body = r.body[:min(len(r.body), maxBody)]
	return r, nil
}

// readHead reads the head of the final response, skipping informational ones.
func readHead(br *bufio.Reader) (*http.Response, error) {
	for {
		res, err := http.ReadResponse(br, nil)
		switch {
		case err != nil:
			return nil, err
		case res.StatusCode == http.StatusSwitchingProtocols:
			return nil, errUpgraded
		case res.StatusCode < 100 || res.ProtoMajor != 1:
			return nil, errNotHTTP
		case res.StatusCode >= 200:
			return res, nil
		}
	}
}
