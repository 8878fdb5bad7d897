package otlptest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/otlp-relay/otlp-relay/internal/otlp"
)

// The kinds of data that a metric holds in JSON.
var metricData = []string{"gauge", "sum", "histogram", "exponentialHistogram", "summary"}

// walkJSON visits the records of a request in OTLP's JSON. The tree is judged only as far as it is walked:
// real SDKs send numbers that no strict OTLP type can hold.
func walkJSON(sig otlp.Signal, tree map[string]any, keys bool, visit func(record)) error {
	w := jsonWalk{sig, keys, visit}
	top, err := jsonList(tree, camel(recordPaths[sig][0]))
	if err != nil {
		return err
	}
	for _, child := range top {
		if err := w.lists(child, recordPaths[sig][1:], ""); err != nil {
			return err
		}
	}
	return nil
}

type jsonWalk struct {
	sig   otlp.Signal
	keys  bool
	visit func(record)
}

// lists goes down the lists of path; enclosing is the key of all above node.
func (w jsonWalk) lists(node map[string]any, path []protoreflect.Name, enclosing string) error {
	if len(path) == 0 {
		if w.sig == otlp.Metrics {
			return w.metric(node, enclosing)
		}
		return w.record(node, enclosing)
	}
	name := camel(path[0])
	list, err := jsonList(node, name)
	if err != nil {
		return err
	}
	here := enclosing + w.key(node, name)
	if len(list) == 0 {
		w.visit(record{key: here})
	}
	for _, child := range list {
		if err := w.lists(child, path[1:], here); err != nil {
			return err
		}
	}
	return nil
}

func (w jsonWalk) metric(node map[string]any, enclosing string) error {
	for _, kind := range metricData {
		if node[kind] == nil {
			continue
		}
		data, ok := node[kind].(map[string]any)
		if !ok {
			return fmt.Errorf("%s is no object", kind)
		}
		points, err := jsonList(data, "dataPoints")
		if err != nil {
			return err
		}
		here := enclosing + w.key(node, kind) + kind + w.key(data, "dataPoints")
		for _, point := range points {
			if err := w.record(point, here); err != nil {
				return err
			}
		}
		if len(points) > 0 {
			return nil
		}
	}
	w.visit(record{key: enclosing + w.key(node, "")})
	return nil
}

func (w jsonWalk) record(node map[string]any, enclosing string) error {
	id, err := jsonID(w.sig, node)
	if err != nil {
		return err
	}
	w.visit(record{true, id, enclosing + w.key(node, "")})
	return nil
}

func (w jsonWalk) key(node map[string]any, without string) string {
	if !w.keys {
		return ""
	}
	return jsonKey(node, without)
}

func jsonID(sig otlp.Signal, node map[string]any) (string, error) {
	switch sig {
	case otlp.Traces:
		return jsonHexID(node, "spanId", 8)
	case otlp.Profiles:
		return jsonHexID(node, "profileId", 16)
	}
	attributes, err := jsonList(node, "attributes")
	if err != nil {
		return "", err
	}
	for _, kv := range attributes {
		if kv["key"] == IDAttribute {
			value, _ := kv["value"].(map[string]any)
			s, _ := value["stringValue"].(string)
			return s, nil
		}
	}
	return "", nil
}

// jsonHexID reads an id of so many bytes, hex in either case (OTLP specification, "JSON Protobuf Encoding").
func jsonHexID(node map[string]any, name string, bytes int) (string, error) {
	s, _ := node[name].(string)
	if b, err := hex.DecodeString(s); err != nil || len(b) != bytes && len(b) != 0 {
		return "", fmt.Errorf("%s %q is not %d bytes in hex", name, s, bytes)
	}
	return strings.ToLower(s), nil
}

// jsonList is a list of objects; null and nothing are an empty one.
func jsonList(node map[string]any, name string) ([]map[string]any, error) {
	if node[name] == nil {
		return nil, nil
	}
	list, ok := node[name].([]any)
	if !ok {
		return nil, fmt.Errorf("%s is no list", name)
	}
	objects := make([]map[string]any, len(list))
	for i, v := range list {
		if objects[i], ok = v.(map[string]any); !ok {
			return nil, fmt.Errorf("%s[%d] is no object", name, i)
		}
	}
	return objects, nil
}

// jsonKey writes a node canonically (keys sorted, numbers as they came), without one of its members.
func jsonKey(node map[string]any, without string) string {
	if _, ok := node[without]; ok {
		node = maps.Clone(node)
		delete(node, without)
	}
	b, err := json.Marshal(node)
	if err != nil {
		panic("BUG: a tree that came from JSON cannot be written: " + err.Error())
	}
	return string(b)
}

func parseJSON(body []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var tree map[string]any
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return tree, nil
}

// camel turns a field name of protobuf into that of OTLP's JSON.
func camel(name protoreflect.Name) string {
	parts := strings.Split(string(name), "_")
	for i, p := range parts[1:] {
		parts[i+1] = strings.ToUpper(p[:1]) + p[1:]
	}
	return strings.Join(parts, "")
}
