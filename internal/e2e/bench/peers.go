package main

// peers is what other extensions showed, as reference values.
func peers() table {
	t := table{
		title: "Others, for reference",
		method: "Measured by this project on 2026-11-23, not in this run: the same emulated Lambda on a machine of the same kind, a real Go function with " +
			"20 spans an invocation, a backend 20 ms away, medians of 3 to 5 runs. Compare orders of magnitude, not digits.",
		columns: []string{"", "floor", "Rotel 0.1.3 (Rust)", "djvcom 0.1.7 (Rust)", "Collector layer (Go)"},
	}
	t.row("binary, MB", "6", "13.9", "9.4", "53")
	t.row("CPU until ready, ms", "3.2–4.5", "16–17", "7–10", "49")
	t.row("init with it at 1769 / 512 / 128 MB, ms (without any: 14 / 10 / 55)", "22 / 19 / 148", "28 / 71 / 347", "18 / 34 / 178", "105 / 152 / 968")
	t.row("peak resident, MB: 40 spans / 100 × 20 / 40 × 420", "6.5", "17.7 / 20 / 33", "8.4 / 12.6 / 39", "42")
	t.row("added billed ms p50 / p99, exporting after each invocation", "0.2 / 0.3", "49 / 52", "never does", "19 / 29")
	t.row("the same, deferring", "0.2 / 2.4", "0.2 / 51", "0.25 / 2.6", "–")
	t.row("CPU per invocation, ms: export each / deferring", "0.55", "1.2 / 0.8", "– / 0.5", "2.7")
	t.row("CPU per further span, µs", "–", "3.4", "2.6", "15")
	t.row("backend hangs: ms held per invocation, records lost of 400", "–", "3,000, 200", "3,300, 380", "until the function's timeout")
	t.row("first 5 requests reset: records lost of 400", "–", "60", "20", "–")
	return t
}
