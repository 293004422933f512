package policies

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// labelKey is what a label can be called.
var labelKey = matcher(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?$`)

// comment is what looks like one behind a value: a value with it would match nothing
// that anybody meant.
var comment = matcher(`(^|\s)#`)

const labelKeys = "use letters and digits, and between them dots, dashes, underscores and slashes"

// ParseLabels reads a host's labels: KEY=VALUE on each line, blank lines, and
// comments on lines that begin with #. Quotes around a whole value are left out, as a shell
// does. The name is used in messages only. All that is wrong is reported together.
func ParseLabels(file string, data []byte) (map[string]string, error) {
	labels := map[string]string{}
	var found faults
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%s: more than %d bytes of labels", file, MaxSize)
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	number := 0
	for raw := range strings.Lines(text) {
		number++
		if found.full() {
			break
		}
		trimmed := strings.TrimSpace(raw)
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		at := Source{File: file, Line: number, Column: utf8.RuneCountInString(raw[:strings.Index(raw, trimmed)]) + 1}
		key, value, err := ParseLabel(trimmed)
		if _, twice := labels[key]; err == nil && twice {
			err = fmt.Errorf("the label %s is there already", quoted(key))
		}
		if err != nil {
			found.add(text, at, utf8.RuneCountInString(trimmed), "%v", err)
			continue
		}
		labels[key] = value
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	return labels, nil
}

// ParseLabel reads one label, KEY=VALUE.
func ParseLabel(text string) (key, value string, err error) {
	key, value, ok := strings.Cut(text, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	switch {
	case !ok:
		return "", "", fmt.Errorf("%s is no label: write KEY=VALUE", quoted(text))
	case !labelKey().MatchString(key):
		return "", "", fmt.Errorf("label %s: %s", quoted(key), labelKeys)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		return "", "", fmt.Errorf("the value %s of label %s is no text", quoted(value), key)
	}
	if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
		return key, value[1 : n-1], nil
	}
	if comment().MatchString(value) {
		return "", "", fmt.Errorf("label %s: a comment has a line of its own; if %s is the value, put it in quotes", key, quoted(value))
	}
	return key, value, nil
}
