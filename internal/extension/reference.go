package extension

import (
	"errors"
	"strings"
)

// reference is a secret that is kept elsewhere, as settings name it: ${ssm:NAME} or ${secretsmanager:ID#key}.
type reference string

// parts is what a reference is made of. key is the member of the secret's JSON object, or empty for all of it. An
// SSM parameter has none: its name may end in :version or :label.
func (r reference) parts() (service, id, key string, ok bool) {
	service, id, _ = strings.Cut(strings.TrimSuffix(strings.TrimPrefix(string(r), "${"), "}"), ":")
	switch service {
	case "ssm":
		return service, id, "", id != "" && !strings.ContainsAny(id, " #${")
	case "secretsmanager":
		id, key, found := strings.Cut(id, "#")
		return service, id, key, id != "" && !strings.ContainsAny(id, " ${") && found == (key != "")
	}
	return service, id, "", false
}

// errReference says how references are written. It does not repeat the wrong one, which may be a secret.
var errReference = errors.New("holds a reference that is not understood: write ${ssm:NAME} or ${secretsmanager:ID#key}")

// errUnresolved is about CloudFormation's own references: where it does not know them it leaves them as they are.
var errUnresolved = errors.New("holds {{resolve:…}}, which CloudFormation has not resolved: write ${ssm:NAME} or ${secretsmanager:ID#key}")

// expand puts each reference's secret in its place, as it is, and passes what stands between them through literal.
// A reference without a known secret stays, and is in missing.
func expand(s string, secrets map[reference]string, literal func(string) (string, error)) (text string, missing []reference, err error) {
	if strings.Contains(s, "{{resolve:") {
		return "", nil, errUnresolved
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "${")
		before, err := literal(before)
		b.WriteString(before)
		if !found || err != nil {
			return b.String(), missing, err
		}
		name, after, closed := strings.Cut(rest, "}")
		ref := reference("${" + name + "}")
		if _, _, _, ok := ref.parts(); !ok || !closed {
			return "", nil, errReference
		}
		secret, known := secrets[ref]
		if !known {
			secret, missing = string(ref), append(missing, ref)
		}
		b.WriteString(secret)
		s = after
	}
}

// asIs is the literal of settings that are not encoded.
func asIs(s string) (string, error) { return s, nil }
