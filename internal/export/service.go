package export

import (
	"net/url"
	"strings"
)

// ServiceOf says which AWS service, in which region, a URL belongs to whose requests want a signature: the names
// to sign with. ok is false for every other URL, and for one that is not https: a session token must not travel
// in the clear. It knows Lambda function URLs (Lambda Developer Guide, "Creating and managing Lambda function
// URLs"), the OTLP endpoints of X-Ray, CloudWatch Logs and CloudWatch (CloudWatch User Guide, "OTLP Endpoints"),
// dual-stack, FIPS and VPC endpoints' own names included, and OpenSearch Ingestion pipelines (OpenSearch Service
// Developer Guide, "Using an OpenSearch Ingestion pipeline with OpenTelemetry Collector").
func ServiceOf(u *url.URL) (service, region string, ok bool) {
	if u == nil || u.Scheme != "https" {
		return "", "", false
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if name, found := strings.CutSuffix(host, ".on.aws"); found {
		labels := strings.Split(name, ".")
		if len(labels) == 3 && labels[0] != "" && labels[1] == "lambda-url" && isRegion(labels[2]) {
			return "lambda", labels[2], true
		}
		return "", "", false
	}
	labels := strings.Split(apiName(host), ".")
	if n := len(labels); n == 4 && labels[3] == "vpce" && strings.HasPrefix(labels[0], "vpce-") {
		labels = labels[1:3] // what stands before names the endpoint in the VPC
	}
	switch {
	case len(labels) == 3 && labels[0] != "" && labels[2] == "osis":
		service, region = labels[2], labels[1]
	case len(labels) == 2:
		service, region = strings.TrimSuffix(labels[0], "-fips"), labels[1]
		if service != "xray" && service != "logs" && service != "monitoring" {
			return "", "", false
		}
	}
	if !isRegion(region) {
		return "", "", false
	}
	return service, region, true
}

// apiName is the part of an AWS API's host before the partition's domain; empty where it has none.
func apiName(host string) string {
	for _, domain := range []string{".api.aws", ".amazonaws.com", ".amazonaws.com.cn", ".api.amazonwebservices.com.cn", ".amazonaws.eu"} {
		if name, ok := strings.CutSuffix(host, domain); ok {
			return name
		}
	}
	return ""
}

// apiDomain is the domain of AWS's APIs in a region.
func apiDomain(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "amazonaws.com.cn"
	case strings.HasPrefix(region, "eusc-"):
		return "amazonaws.eu"
	}
	return "amazonaws.com"
}

// isRegion says whether s looks like the name of a region: us-east-1, us-gov-west-1, ap-southeast-2.
func isRegion(s string) bool {
	words := strings.Split(s, "-")
	if len(words) < 3 {
		return false
	}
	for i, w := range words {
		digits := strings.Trim(w, "0123456789") == ""
		if w == "" || digits != (i == len(words)-1) || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return false
		}
	}
	return true
}
