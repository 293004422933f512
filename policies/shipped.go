package policies

import (
	"embed"
	"errors"
	"fmt"
	"strings"
)

// profiles are the shipped policies, one to a file, each with its reasons and
// sources in its comments.
//
//go:embed profiles/*.yaml
var profiles embed.FS

// Shipped returns the policies that come with nictune, by name. They are
// alternatives, made to be chosen or copied. They do not contradict each other,
// so that a host can be compared with all of them at once. They have priority
// -100, so that a user's own documents win over them, and match hardware only.
func Shipped() ([]Policy, error) {
	entries, err := profiles.ReadDir("profiles")
	if err != nil {
		return nil, fmt.Errorf("shipped policies: %w", err)
	}
	var policies []Policy
	var errs []error
	for _, e := range entries {
		file := "profiles/" + e.Name()
		data, err := profiles.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("shipped policies: %w", err)
		}
		parsed, err := Parse(file, data)
		policies, errs = append(policies, parsed...), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return policies, nil
}

// ShippedDocument returns the text of the shipped policy with a name, comments
// and all. The error names the policies that there are.
func ShippedDocument(name string) ([]byte, error) {
	shipped, err := Shipped()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range shipped {
		if p.Name == name {
			return profiles.ReadFile(p.Source.File)
		}
		names = append(names, p.Name)
	}
	return nil, fmt.Errorf("nictune ships no policy %q, but %s", name, strings.Join(names, ", "))
}
