package e2e

import "testing"

func TestFirstLight(t *testing.T) {
	for _, mode := range []string{"auto", "end", "next", "interval"} {
		t.Run(mode, func(t *testing.T) {
			c := newChain(t, setup{vars: map[string]string{"OTLP_RELAY_FLUSH": mode}})
			for range 10 {
				c.invoke(3)
			}
			c.mustArrive(c.shutdown())
			if n := len(c.logged("level=WARN")) + len(c.logged("level=ERROR")); n > 0 {
				t.Errorf("%d warnings where nothing is wrong", n)
			}
		})
	}
}
