package otlptest

import (
	"net/http"

	"testing"
	"time"
)

// The verifier is right: it accepts every vector of AWS, and none in which anything signed was changed.
func TestSigV4Vectors(t *testing.T) {
	vectors, err := SigV4Vectors()
	if err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 34 {
		t.Errorf("%d vectors, want all 34 of the suite", len(vectors))
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			verify := func(change func(*SigV4, *http.Request) string) error {
				key, r := SigV4VectorKey(), v.Request.Clone(t.Context())
				r.Header.Set("Authorization", v.Authorization)
				key.SessionToken = r.Header.Get("X-Amz-Security-Token")
				return key.Verify(r, []byte(string(v.Body)+change(&key, r)))
			}
			if err := verify(func(*SigV4, *http.Request) string { return "" }); err != nil {
				t.Fatal(err)
			}
			for name, change := range map[string]func(*SigV4, *http.Request) string{
				"another body":      func(*SigV4, *http.Request) string { return " " },
				"another path":      func(_ *SigV4, r *http.Request) string { r.RequestURI = "/x" + r.RequestURI; return "" },
				"another method":    func(_ *SigV4, r *http.Request) string { r.Method = "PUT"; return "" },
				"another host":      func(_ *SigV4, r *http.Request) string { r.Host += ".evil"; return "" },
				"another secret":    func(k *SigV4, _ *http.Request) string { k.SecretAccessKey += "x"; return "" },
				"another region":    func(k *SigV4, _ *http.Request) string { k.Region = "eu-west-1"; return "" },
				"another token":     func(k *SigV4, _ *http.Request) string { k.SessionToken += "x"; return "" },
				"an unsigned x-amz": func(_ *SigV4, r *http.Request) string { r.Header.Set("X-Amz-Target", "x"); return "" },
				"5 minutes later": func(k *SigV4, _ *http.Request) string {
					k.Now = func() time.Time { return SigV4VectorKey().Now().Add(5 * time.Minute) }
					return ""
				},
				"unsigned": func(_ *SigV4, r *http.Request) string { r.Header.Del("Authorization"); return "" },
			} {
				if verify(change) == nil {
					t.Errorf("accepted with %s", name)
				}
			}
		})
	}
}
