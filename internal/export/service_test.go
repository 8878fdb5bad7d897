package export

import "testing"

func TestServiceOf(t *testing.T) {
	for url, want := range map[string]string{
		"https://abc123.lambda-url.eu-central-1.on.aws/":                            "lambda eu-central-1",
		"https://ABC123.Lambda-URL.us-gov-west-1.on.aws./v1/traces":                 "lambda us-gov-west-1",
		"https://abc123.lambda-url.eu-central-1.on.aws:443/v1/traces":               "lambda eu-central-1",
		"https://xray.us-west-2.amazonaws.com/v1/traces":                            "xray us-west-2",
		"https://xray-fips.us-west-2.amazonaws.com/v1/traces":                       "xray us-west-2",
		"https://xray.us-west-2.api.aws/v1/traces":                                  "xray us-west-2",
		"https://logs.ap-southeast-3.amazonaws.com/v1/logs":                         "logs ap-southeast-3",
		"https://logs.cn-north-1.amazonaws.com.cn/v1/logs":                          "logs cn-north-1",
		"https://logs.cn-north-1.api.amazonwebservices.com.cn/v1/logs":              "logs cn-north-1",
		"https://xray.eusc-de-east-1.amazonaws.eu/v1/traces":                        "xray eusc-de-east-1",
		"https://monitoring.us-east-1.amazonaws.com/v1/metrics":                     "monitoring us-east-1",
		"https://vpce-0123-ab.xray.us-east-1.vpce.amazonaws.com/v1/traces":          "xray us-east-1",
		"https://vpce-0123-ab-us-east-1a.logs.us-east-1.vpce.amazonaws.com/v1/logs": "logs us-east-1",
		"https://my-pipeline-abcdef.us-east-1.osis.amazonaws.com/v1/traces":         "osis us-east-1",
		"http://abc123.lambda-url.eu-central-1.on.aws/":                             "", // a token in the clear
		"https://lambda-url.eu-central-1.on.aws/":                                   "",
		"https://a.b.lambda-url.eu-central-1.on.aws/":                               "",
		"https://abc123.lambda-url.eu-central-1.on.aws.example.com/":                "",
		"https://abc123.other-url.eu-central-1.on.aws/":                             "",
		"https://xray.example.com/v1/traces":                                        "",
		"https://xray.us-west-2.amazonaws.com.evil.example/v1/traces":               "",
		"https://xrayamazonaws.com/":                                                "",
		"https://xray.amazonaws.com/v1/traces":                                      "",
		"https://xray.nowhere.amazonaws.com/v1/traces":                              "",
		"https://xray.-1-2.amazonaws.com/":                                          "",
		"https://sqs.us-east-1.amazonaws.com/123456789012/queue":                    "",
		"https://bucket.s3.us-east-1.amazonaws.com/":                                "",
		"https://abcdef.execute-api.us-east-1.amazonaws.com/v1/traces":              "",
		"https://evil.vpce-0123-ab.xray.us-east-1.vpce.amazonaws.com/v1/traces":     "",
		"https://x.xray.us-east-1.vpce.amazonaws.com/v1/traces":                     "",
		"https://amazonaws.com/":                                                    "",
		"https://otlp.example.com/v1/traces":                                        "",
		"https://[::1]/":                                                            "",
	} {
		service, region, ok := ServiceOf(mustURL(t, url))
		if got := service + " " + region; ok != (want != "") || ok && got != want || !ok && got != " " {
			t.Errorf("%s: %q, %v; want %q", url, got, ok, want)
		}
	}
	if _, _, ok := ServiceOf(nil); ok {
		t.Error("no URL belongs to a service")
	}
}

// What ServiceOf recognizes and what Secrets asks are named alike in every partition.
func TestAPIDomain(t *testing.T) {
	for region, want := range map[string]string{
		"us-east-1": "amazonaws.com", "us-gov-west-1": "amazonaws.com", "cn-northwest-1": "amazonaws.com.cn", "eusc-de-east-1": "amazonaws.eu",
	} {
		if got := apiDomain(region); got != want {
			t.Errorf("%s: %s, want %s", region, got, want)
		}
		if service, r, ok := ServiceOf(mustURL(t, "https://xray."+region+"."+want+"/v1/traces")); !ok || service != "xray" || r != region {
			t.Errorf("%s: its own name is not recognized", region)
		}
	}
}
