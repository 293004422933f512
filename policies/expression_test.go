package policies

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

// machine answers as a device with at most 4096, 1024 now, on a host of 64 CPUs.
func machine(q Quantity) (uint64, error) {
	switch q {
	case Maximum:
		return 4096, nil
	case Current:
		return 1024, nil
	case Default:
		return 256, nil
	case CPUs:
		return 64, nil
	case LocalCPUs:
		return 32, nil
	case HousekeepingCPUs:
		return 60, nil
	}
	return 0, fmt.Errorf("what is %s?", q)
}

func TestExpressions(t *testing.T) {
	for text, want := range map[string]string{
		"max":                    "max = 4096 [max]",
		" default ":              "default = 256 [default]",
		"50%":                    "50% = 2048 [max]",
		"33 %":                   "33% = 1351 [max]",
		"100%":                   "100% = 4096 [max]",
		"cpus":                   "cpus = 64 [cpus]",
		"local-cpus":             "local-cpus = 32 [local-cpus]",
		"housekeeping-cpus":      "housekeeping-cpus = 60 [housekeeping-cpus]",
		"min(local-cpus,16)":     "min(local-cpus, 16) = 16 [local-cpus]",
		"max( 1 , 2,  3 )":       "max(1, 2, 3) = 3 []",
		"max(min(cpus, 50%), 8)": "max(min(cpus, 50%), 8) = 64 [cpus max]",
		"min(max, 8192)":         "min(max, 8192) = 4096 [max]",
		">=4096":                 ">=4096 = 4096 [current]",
		">= 512":                 ">=512 = 1024 [current]",
		"<=4096":                 "<=4096 = 1024 [current]",
		"<=512":                  "<=512 = 512 [current]",
		">=50%":                  ">=50% = 2048 [current max]",
		"<=min(local-cpus, 18446744073709551615)": "<=min(local-cpus, 18446744073709551615) = 32 [current local-cpus]",
		"4096": "4096 = 4096 []",
	} {
		e, err := ParseExpression(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		n, err := e.Evaluate(machine)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if got := fmt.Sprintf("%s = %d %v", e, n, e.Needs()); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

// What is rounded, what can't overflow, and what is asked for only where it counts.
func TestEvaluate(t *testing.T) {
	for _, c := range []struct {
		text      string
		max, want uint64
	}{
		{"1%", 8, 1}, {"50%", 1, 1}, {"50%", 3, 1}, {"99%", 200, 198}, {"50%", 0, 0},
		{"100%", math.MaxUint64, math.MaxUint64}, {"99%", math.MaxUint64, 18262276632972456098},
	} {
		e, err := ParseExpression(c.text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.Evaluate(func(Quantity) (uint64, error) { return c.max, nil })
		if err != nil || got != c.want {
			t.Errorf("%s of %d is %d, want %d (%v)", c.text, c.max, got, c.want, err)
		}
	}
	unknown := errors.New("unknown")
	for text, asked := range map[string]string{"min(local-cpus, 4)": "local-cpus", ">=50%": "max", ">=8": "current", "default": "default"} {
		e, err := ParseExpression(text)
		if err != nil {
			t.Fatal(err)
		}
		var first Quantity
		_, err = e.Evaluate(func(q Quantity) (uint64, error) { first = q; return 0, unknown })
		if !errors.Is(err, unknown) || string(first) != asked {
			t.Errorf("%s: %v after asking for %s", text, err, first)
		}
	}
}

// Each fault, and the characters that it points at.
func TestExpressionFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "0+1 something is missing",
		"  ":                                     "2+1 something is missing",
		">=":                                     "2+1 something is missing",
		"local-cpu":                              `0+9 unknown name "local-cpu"; did you mean "local-cpus"?`,
		"min(local_cpus, 16)":                    `4+10 unknown name "local_cpus"; did you mean "local-cpus"?`,
		"min(cpus, 16":                           "12+1 min( is not closed",
		"min(cpus, 16))":                         "13+1 the expression ends before this",
		"min()":                                  `4+1 ")" has no place here`,
		"min(4)":                                 "0+6 min is of two or more",
		"min(4, )":                               `7+1 ")" has no place here`,
		"max(4; 5)":                              `5+1 ";" has no place here`,
		"0%":                                     "0+2 a share of the maximum is between 1% and 100%",
		"101%":                                   "0+4 a share of the maximum is between 1% and 100%",
		"50.5%":                                  "2+3 the expression ends before this",
		"cpus/2":                                 "4+2 the expression ends before this",
		">4096":                                  `0+1 ">" has no place here`,
		"=4096":                                  `0+1 "=" has no place here`,
		">=>=1":                                  `2+1 ">" has no place here`,
		"-1":                                     `0+2 "-1" is no number here`,
		"0x10":                                   `0+4 "0x10" is no number here`,
		"010":                                    `0+3 "010" is no number here`,
		"99999999999999999999":                   "0+20 \"99999999999999999999\" is too large",
		"current":                                `0+7 unknown name "current"`,
		"min(größe, 1)":                          `4+5 unknown name "größe"`,
		"min(Ω":                                  "4+1 unknown name",
		"max max":                                "4+3 the expression ends before this",
		strings.Repeat("min(", 9):                "32+3 nested more than 8 deep",
		"min(" + strings.Repeat("1,", 20) + "1)": "0+3 min of more than 16",
	} {
		e, err := ParseExpression(text)
		var fault *ExpressionError
		if !errors.As(err, &fault) {
			t.Errorf("%q is %v, %v", text, e, err)
			continue
		}
		if got := fmt.Sprintf("%d+%d %s", fault.Offset, fault.Width, fault.Problem); !strings.HasPrefix(got, want) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func FuzzExpression(f *testing.F) {
	for _, seed := range []string{"max", "50%", "min(local-cpus, 16)", ">=4096", "<=max(50%, cpus)", "min(1,2", "((", "Ω%", "min(min(1,2),3)"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseExpression(text)
		if err != nil {
			var fault *ExpressionError
			if runes := len([]rune(text)); !errors.As(err, &fault) || fault.Offset < 0 || fault.Width < 1 || fault.Offset > runes || fault.Offset+fault.Width > runes+1 {
				t.Fatalf("%q: %#v", text, err)
			}
			return
		}
		again, err := ParseExpression(e.String())
		if err != nil || again.String() != e.String() {
			t.Fatalf("%q is spelled %q, which is %v, %v", text, e, again, err)
		}
		n, err := e.Evaluate(machine)
		if m, err2 := again.Evaluate(machine); err != nil || err2 != nil || n != m {
			t.Fatalf("%q: %d, %v; spelled anew %d, %v", text, n, err, m, err2)
		}
	})
}
