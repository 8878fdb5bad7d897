package otlptest

import (
	_ "embed"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// SigV4Vector is one of AWS's published test vectors: a request, and the Authorization that signing it yields.
type SigV4Vector struct {
	Name          string
	Request       *http.Request // with RequestURI as it is sent, X-Amz-Date included
	Body          []byte
	Authorization string
}

//go:embed testdata/sigv4.txt
var sigV4Vectors string

// SigV4VectorKey is what the vectors were signed with, at that time.
func SigV4VectorKey() SigV4 {
	return SigV4{
		AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
		Service: "service", Region: "us-east-1",
		Now: func() time.Time { return time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC) },
	}
}

// SigV4Vectors reads the vectors.
func SigV4Vectors() ([]SigV4Vector, error) {
	var all []SigV4Vector
	for _, text := range strings.Split(sigV4Vectors, "\n== ")[1:] {
		name, rest, _ := strings.Cut(text, "\n")
		raw, authorization, ok := strings.Cut(rest, "\n-- ")
		if !ok {
			return nil, fmt.Errorf("vector %s has no Authorization", name)
		}
		v := SigV4Vector{Name: name, Authorization: strings.TrimSpace(authorization)}
		head, body, _ := strings.Cut(raw, "\n\n")
		v.Body = []byte(body)
		lines := strings.Split(strings.TrimRight(head, "\n"), "\n")
		start, end := strings.IndexByte(lines[0], ' '), strings.LastIndexByte(lines[0], ' ') // a path may hold spaces
		v.Request = &http.Request{Method: lines[0][:start], RequestURI: lines[0][start+1 : end], Header: http.Header{}}
		last := ""
		for _, line := range lines[1:] {
			if strings.HasPrefix(line, " ") { // RFC 7230 §3.2.4: a folded line
				values := v.Request.Header[last]
				values[len(values)-1] += " " + strings.TrimSpace(line)
				continue
			}
			k, value, _ := strings.Cut(line, ":")
			last = http.CanonicalHeaderKey(k)
			v.Request.Header.Add(k, strings.TrimSpace(value))
		}
		v.Request.Host = v.Request.Header.Get("Host")
		v.Request.Header.Del("Host")
		all = append(all, v)
	}
	return all, nil
}
