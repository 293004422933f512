// Package promql asks a server that speaks Prometheus's HTTP API for what PromQL
// expressions give at one moment: Prometheus itself, Thanos, Mimir, VictoriaMetrics.
//
// An answer is decoded while it arrives and handed on sample by sample, so that its
// size costs no memory here. What the server says of its own answer, that it is
// partial for example, is handed on, too. How to connect (TLS, credentials, proxies) is the
// business of the [http.Client] that it is given. It never writes to the server.
package promql

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxAnswer is how many bytes of an answer are read unless a Server says otherwise.
const MaxAnswer = 512 << 20

const queryPath = "/api/v1/query"

// attempts is how often a server is asked that says it is busy.
const attempts = 4

// Server is one to ask. Its methods may be called at the same time.
type Server struct {
	// URL is what stands before /api/v1: "http://localhost:9090",
	// "https://mimir.example/prometheus".
	URL *url.URL
	// HTTP connects and authenticates.
	HTTP *http.Client
	// MaxAnswer is how many bytes one answer may have; 0 stands for the constant.
	MaxAnswer int64
	// Timeout is for one query, with its repetitions; 0 stands for two minutes, which is
	// how long Prometheus itself lets a query run.
	Timeout time.Duration
	// Pause is how long to wait before a busy server is asked again where it doesn't
	// say; twice as long each time. 0 stands for a second.
	Pause time.Duration
}

// Parse checks the address of a server.
func Parse(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, fmt.Errorf("%q is no address of a server; it looks like http://localhost:9090 or https://mimir.example/prometheus", address)
	case u.User != nil:
		return nil, fmt.Errorf("the address of %s has a user name or password in it, which every process list shows: put them into a file", u.Host)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q has a query or a fragment; the address ends before /api/v1", address)
	}
	u.Path = strings.TrimSuffix(strings.TrimRight(u.Path, "/"), "/api/v1")
	u.RawPath = ""
	return u, nil
}

// Error is a server's refusal in its own words.
type Error struct {
	// Status is HTTP's, such as 422.
	Status int
	// Kind is the API's, such as "bad_data", "execution", "timeout"; empty where the
	// answer was not the API's.
	Kind string
	// Message are the server's words.
	Message string
	// Query is the expression that it was about, shortened.
	Query string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("the server answers %d %s", e.Status, http.StatusText(e.Status))
	if e.Kind != "" {
		text += ", " + e.Kind
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	switch {
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		text += " (see --http.config.file and --bearer-token-file)"
	case e.Status == http.StatusNotFound && e.Kind == "":
		text += " (is what stands before /api/v1 in the address right?)"
	}
	if e.Query != "" {
		text += "; the query was " + e.Query
	}
	return text
}

// Sample is one element of an answer. It is valid until the next one; the names and values
// of its labels may be kept.
type Sample struct {
	Labels map[string]string
	Value  float64
}

// Query evaluates an expression at a moment and hands each element of its vector to
// each, which ends the query with an error. warnings are the server's, about a partial
// answer for example; they are there with an error, too.
func (s *Server) Query(ctx context.Context, expression string, at time.Time, each func(Sample) error) (warnings []string, err error) {
	form := url.Values{"query": {expression}, "time": {seconds(at)}}
	labels := make(map[string]string)
	known := words{}
	return s.ask(ctx, queryPath, form, func(d *jsontext.Decoder) error {
		return object(d, func(key string) error {
			switch key {
			case "resultType":
				var kind string
				if err := json.UnmarshalDecode(d, &kind); err != nil {
					return err
				}
				if kind != "vector" {
					return fmt.Errorf("the answer is a %s, not a vector", kind)
				}
				return nil
			case "result":
				return array(d, func() error {
					clear(labels)
					var value point
					if err := object(d, func(key string) error {
						switch key {
						case "metric":
							return known.decode(d, labels)
						case "value":
							return value.UnmarshalJSONFrom(d)
						}
						return d.SkipValue()
					}); err != nil {
						return err
					}
					if !value.there {
						return errors.New("an element of the answer has no value: is it a native histogram?")
					}
					return each(Sample{Labels: labels, Value: value.value})
				})
			}
			return d.SkipValue()
		})
	})
}

// Series hands on the labels of every series that a selector has between two moments.
// It asks the server's index and no samples, so that one may be named whose last
// sample lies a little before.
func (s *Server) Series(ctx context.Context, selector string, from, to time.Time, each func(map[string]string) error) (warnings []string, err error) {
	form := url.Values{"match[]": {selector}, "start": {seconds(from)}, "end": {seconds(to)}}
	labels := make(map[string]string)
	known := words{}
	return s.ask(ctx, "/api/v1/series", form, func(d *jsontext.Decoder) error {
		return array(d, func() error {
			clear(labels)
			if err := known.decode(d, labels); err != nil {
				return err
			}
			return each(labels)
		})
	})
}

// words are the names and values of labels that an answer has had so far: the next element
// has nearly the same.
type words map[string]string

// mostWords is how many of them are worth remembering.
const mostWords = 10000

// decode reads the labels of an element.
func (w words) decode(d *jsontext.Decoder, into map[string]string) error {
	return inside(d, jsontext.KindBeginObject, jsontext.KindEndObject, func() error {
		name, err := w.word(d)
		if err != nil {
			return err
		}
		value, err := w.word(d)
		if err != nil {
			return err
		}
		into[name] = value
		return nil
	})
}

// word reads a string.
func (w words) word(d *jsontext.Decoder) (string, error) {
	text, err := d.ReadValue()
	if err != nil {
		return "", err
	}
	if text.Kind() != jsontext.KindString {
		return "", fmt.Errorf("%.40q stands where a label should", text)
	}
	plain := text[1 : len(text)-1]
	if bytes.IndexByte(plain, '\\') >= 0 {
		if plain, err = jsontext.AppendUnquote(nil, text); err != nil {
			return "", err
		}
	}
	if known, ok := w[string(plain)]; ok {
		return known, nil
	}
	word := string(plain)
	if len(w) < mostWords {
		w[word] = word
	}
	return word, nil
}

// point is [ 1435781451.781, "1" ].
type point struct {
	value float64
	there bool
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (p *point) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	text, err := d.ReadValue()
	if err != nil {
		return err
	}
	_, value, _ := bytes.Cut(text, []byte{','})
	value = bytes.TrimSpace(bytes.TrimSuffix(bytes.TrimSpace(value), []byte{']'}))
	n := len(value)
	if text[0] != '[' || n < 2 || value[0] != '"' || value[n-1] != '"' {
		return fmt.Errorf("%.40q is no sample", text)
	}
	if p.value, err = strconv.ParseFloat(string(value[1:n-1]), 64); err != nil && !errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%.40q is no sample", text)
	}
	p.there = true
	return nil
}

func seconds(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
}

// ask sends one request and has data decode what stands there under that name.
func (s *Server) ask(ctx context.Context, path string, form url.Values, data func(*jsontext.Decoder) error) (warnings []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.Timeout, 2*time.Minute))
	defer cancel()
	if path == queryPath {
		// The server need not go on for longer than somebody waits.
		deadline, _ := ctx.Deadline()
		form.Set("timeout", strconv.FormatFloat(max(math.Ceil(time.Until(deadline).Seconds()), 1), 'f', 0, 64)+"s")
	}
	response, err := s.send(ctx, path, form)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	size := cmp.Or(s.MaxAnswer, MaxAnswer)
	limit := &limited{from: response.Body, left: size}
	failed := &Error{Status: response.StatusCode, Query: short(form.Get("query"), 200)}
	ok, refused := false, false
	err = func() error {
		// A label that is no UTF-8 is no reason to report on nobody.
		d := jsontext.NewDecoder(limit, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
		return object(d, func(key string) error {
			switch key {
			case "status":
				var status string
				if err := json.UnmarshalDecode(d, &status); err != nil {
					return err
				}
				ok = status == "success"
				refused = !ok
			case "data":
				if refused {
					return d.SkipValue()
				}
				return data(d)
			case "warnings", "infos":
				var more []string
				if err := json.UnmarshalDecode(d, &more); err != nil {
					return err
				}
				for _, w := range more {
					warnings = append(warnings, short(w, 500))
				}
			case "isPartial": // VictoriaMetrics
				var partial bool
				if err := json.UnmarshalDecode(d, &partial); err != nil {
					return err
				}
				if partial {
					warnings = append(warnings, "the answer is partial: not all of the server's storage answered")
				}
			case "errorType":
				return json.UnmarshalDecode(d, &failed.Kind)
			case "error":
				return json.UnmarshalDecode(d, &failed.Message)
			default:
				return d.SkipValue()
			}
			return nil
		})
	}()
	failed.Kind, failed.Message = short(failed.Kind, 50), short(failed.Message, 1000)
	switch {
	case failed.Kind != "" || failed.Message != "":
		return warnings, failed
	case limit.left < 0:
		return warnings, fmt.Errorf("the answer has more than %d bytes; the query was %s", size, failed.Query)
	case err != nil && ctx.Err() != nil:
		return warnings, ctx.Err()
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return warnings, fmt.Errorf("the answer is cut off; the query was %s", failed.Query)
	case err != nil:
		return warnings, fmt.Errorf("%w; the query was %s", err, failed.Query)
	case !ok:
		return warnings, failed
	}
	return warnings, nil
}

// send posts the form until the server has time, and returns an answer of the API.
func (s *Server) send(ctx context.Context, path string, form url.Values) (*http.Response, error) {
	address := s.URL.JoinPath(path).String()
	method := http.MethodPost
	for attempt := 1; ; attempt++ {
		var body io.Reader = strings.NewReader(form.Encode())
		where := address
		if method == http.MethodGet {
			body, where = http.NoBody, address+"?"+form.Encode()
		}
		request, err := http.NewRequestWithContext(ctx, method, where, body)
		if err != nil {
			return nil, err
		}
		request.Header.Set("Accept", "application/json")
		if method == http.MethodPost {
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		response, err := s.HTTP.Do(request)
		if err != nil {
			var wrapped *url.Error
			if errors.As(err, &wrapped) {
				err = wrapped.Err // the address of a GET holds the query
			}
			return nil, fmt.Errorf("%s: %w", s.URL.Redacted(), err)
		}
		kind := response.Header.Get("Content-Type")
		isJSON := strings.HasPrefix(kind, "application/json")
		if response.StatusCode/100 == 2 && isJSON {
			return response, nil
		}
		switch response.StatusCode {
		case http.StatusMethodNotAllowed, http.StatusNotImplemented:
			if method == http.MethodPost { // a gateway that lets only GET through
				response.Body.Close()
				method = http.MethodGet
				continue
			}
		case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			if attempt < attempts && !isTimeout(response) {
				response.Body.Close()
				if err := s.wait(ctx, attempt, response.Header.Get("Retry-After")); err != nil {
					return nil, err
				}
				continue
			}
		}
		if isJSON { // the API's own refusal
			return response, nil
		}
		start, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		response.Body.Close()
		refused := &Error{Status: response.StatusCode, Message: short(string(start), 300), Query: short(form.Get("query"), 200)}
		if response.StatusCode/100 == 2 {
			refused.Message = fmt.Sprintf("but with %q instead of JSON: %s", kind, refused.Message)
		}
		return nil, refused
	}
}

// isTimeout tells a query that took too long, which Prometheus answers with 503, from a
// server that is busy. Asking it again would make both worse.
func isTimeout(r *http.Response) bool {
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return false
	}
	start, _ := io.ReadAll(io.LimitReader(r.Body, 4096))
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), r.Body), r.Body}
	return bytes.Contains(start, []byte(`"errorType":"timeout"`))
}

func (s *Server) wait(ctx context.Context, attempt int, after string) error {
	pause := cmp.Or(s.Pause, time.Second) << (attempt - 1)
	if n, err := strconv.Atoi(after); err == nil && n >= 0 {
		pause = min(time.Duration(n)*time.Second, 30*time.Second)
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// limited fails where [io.LimitReader] would pretend that the end was reached.
type limited struct {
	from io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.from.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, errors.New("too long")
	}
	return n, err
}

// short makes one line of what a server said, and cuts it.
func short(text string, most int) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// object calls each for every key of the object that comes next; each decodes the value.
func object(d *jsontext.Decoder, each func(key string) error) error {
	return inside(d, jsontext.KindBeginObject, jsontext.KindEndObject, func() error {
		key, err := d.ReadToken()
		if err != nil {
			return err
		}
		return each(key.String())
	})
}

// array calls each for every element of the array that comes next; each decodes it.
func array(d *jsontext.Decoder, each func() error) error {
	return inside(d, jsontext.KindBeginArray, jsontext.KindEndArray, each)
}

// inside calls each until the closing bracket. An absent list is null with some servers.
func inside(d *jsontext.Decoder, opens, closes jsontext.Kind, each func() error) error {
	t, err := d.ReadToken()
	switch {
	case err != nil:
		return err
	case t.Kind() == jsontext.KindNull:
		return nil
	case t.Kind() != opens:
		return fmt.Errorf("%v stands where %q should", t, opens)
	}
	for d.PeekKind() != closes {
		// Without a next token each fails by reading it.
		if err := each(); err != nil {
			return err
		}
	}
	_, err = d.ReadToken()
	return err
}
