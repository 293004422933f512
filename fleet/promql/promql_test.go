package promql_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nictune/nictune/fleet/promql"
)

var noon = time.Date(2027, 1, 31, 12, 0, 0, 5e8, time.UTC)

// replies is a server that is not there: it answers every request the same.
type replies func(*http.Request) *http.Response

func (r replies) RoundTrip(request *http.Request) (*http.Response, error) { return r(request), nil }

func reply(status int, kind, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body))}
}

func serverOf(r replies) *promql.Server {
	return &promql.Server{
		URL:   &url.URL{Scheme: "http", Host: "prometheus.example", Path: "/prometheus"},
		HTTP:  &http.Client{Transport: r},
		Pause: time.Microsecond,
	}
}

func ask(t *testing.T, s *promql.Server) (got []string, warnings []string, err error) {
	t.Helper()
	warnings, err = s.Query(t.Context(), `up{job="nictune"}`, noon, func(p promql.Sample) error {
		got = append(got, fmt.Sprintf("%s %g", p.Labels["instance"], p.Value))
		return nil
	})
	return got, warnings, err
}

const jsonKind = "application/json"

func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		name, kind, body string
		status           int
		want             []string
		warnings         []string
		err              string // part of it
	}{
		{
			name: "a vector", kind: jsonKind, status: 200,
			body: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"instance":"a:1"},"value":[1435781451.781,"1"]},{"metric":{"instance":"b\"\n<:1"},"value":[1435781451,"NaN"]},{"metric":{},"value":[1,"+Inf"]}]}}`,
			want: []string{"a:1 1", "b\"\n<:1 NaN", " +Inf"},
		},
		{name: "the status last", kind: jsonKind, status: 200, body: `{"data":{"result":[{"value":[1,"2"],"metric":{"instance":"a"}}],"resultType":"vector"},"status":"success"}`, want: []string{"a 2"}},
		{name: "nothing", kind: jsonKind, status: 200, body: `{"status":"success","data":{"resultType":"vector","result":[]}}`},
		{name: "null for nothing", kind: jsonKind + "; charset=utf-8", status: 200, body: `{"status":"success","data":{"resultType":"vector","result":null}}`},
		{
			name: "warnings, and fields that came later", kind: jsonKind, status: 200,
			body:     `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"instance":"a"},"value":[1,"2"]}],"stats":{"x":[1,{}]},"analysis":{}},"warnings":["store 3:\nno answer"],"infos":["metric might not be a counter"]}`,
			want:     []string{"a 2"},
			warnings: []string{"store 3: no answer", "metric might not be a counter"},
		},
		{
			name: "VictoriaMetrics without one of its stores", kind: jsonKind, status: 200,
			body:     `{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[]},"stats":{"seriesFetched":"0"}}`,
			warnings: []string{"the answer is partial: not all of the server's storage answered"},
		},
		{
			name: "refused", kind: jsonKind, status: 400,
			body: `{"status":"error","errorType":"bad_data","error":"1:3: parse error: unexpected \"}\""}`,
			err:  `the server answers 400 Bad Request, bad_data: 1:3: parse error: unexpected "}"; the query was up{job="nictune"}`,
		},
		{
			name: "too many samples", kind: jsonKind, status: 422,
			body: `{"status":"error","errorType":"execution","error":"query processing would load too many samples into memory in query execution"}`,
			err:  "422 Unprocessable Entity, execution: query processing would load too many samples",
		},
		{
			name: "failed with 200", kind: jsonKind, status: 200,
			body: `{"status":"error","errorType":"internal","error":"oops","data":{"resultType":"vector","result":[{"metric":{"instance":"a"},"value":[1,"2"]}]}}`,
			err:  "internal: oops",
		},
		{name: "a scalar", kind: jsonKind, status: 200, body: `{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}`, err: "the answer is a scalar, not a vector"},
		{name: "a histogram", kind: jsonKind, status: 200, body: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1"}]}]}}`, err: "no value: is it a native histogram?"},
		{
			name: "cut off", kind: jsonKind, status: 200,
			body: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"instance":"a:1"},"value":[1,"1"]},{"met`,
			want: []string{"a:1 1"}, err: "the answer is cut off",
		},
		{name: "cut off between two", kind: jsonKind, status: 200, body: `{"status":"success","data":{"resultType":"vector","result":[`, err: "the answer is cut off"},
		{name: "empty", kind: jsonKind, status: 200, err: "the answer is cut off"},
		{name: "nothing but an object", kind: jsonKind, status: 200, body: `{}`, err: "the server answers 200 OK"},
		{name: "an array", kind: jsonKind, status: 200, body: `[1]`, err: `stands where "{" should`},
		{name: "a number for a sample", kind: jsonKind, status: 200, body: `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,2]}]}}`, err: `"[1,2]" is no sample`},
		{
			name: "not logged in", kind: "text/html", status: 401, body: "<html>\nplease <b>log in</b>",
			err: "the server answers 401 Unauthorized: <html> please <b>log in</b> (see --http.config.file",
		},
		{name: "a wrong path", kind: "text/plain", status: 404, body: "404 page not found\n", err: "what stands before /api/v1"},
		{name: "a login page", kind: "text/html", status: 200, body: "<html>", err: `but with "text/html" instead of JSON: <html>`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, warnings, err := ask(t, serverOf(func(*http.Request) *http.Response { return reply(test.status, test.kind, test.body) }))
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if fmt.Sprint(warnings) != fmt.Sprint(test.warnings) {
				t.Errorf("warnings %q, want %q", warnings, test.warnings)
			}
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("error %v, want %q", err, test.err)
			}
		})
	}
}

const one = `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"instance":"a"},"value":[1,"2"]}]}}`

// What is sent is a form, below the path of the address, with a time and a limit.
func TestRequest(t *testing.T) {
	var seen *http.Request
	var form url.Values
	s := serverOf(func(r *http.Request) *http.Response {
		seen = r
		body, _ := io.ReadAll(r.Body)
		form, _ = url.ParseQuery(string(body))
		return reply(200, jsonKind, one)
	})
	s.Timeout = time.Hour
	if _, err := s.Query(t.Context(), `a{b="c&d"}`, noon, func(promql.Sample) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if seen.Method != http.MethodPost || seen.URL.String() != "http://prometheus.example/prometheus/api/v1/query" {
		t.Errorf("%s %s", seen.Method, seen.URL)
	}
	if form.Get("query") != `a{b="c&d"}` || form.Get("time") != "1801396800.500" || form.Get("timeout") != "3600s" {
		t.Errorf("sent %v", form)
	}
}

func TestBusyServerIsAskedAgain(t *testing.T) {
	for _, test := range []struct {
		name       string
		busy       int // so many refusals come first
		status     int
		kind, body string
		err        string
		asked      int
	}{
		{"once", 1, 429, "text/plain", "too many requests", "", 2},
		{"a gateway without its server", 2, 502, "text/html", "<html>bad gateway", "", 3},
		{"for ever", 1000, 503, "text/plain", "come back\nlater", "503 Service Unavailable: come back later", 4},
		{"too long a query is not repeated", 1000, 503, jsonKind, `{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}`, "timeout: query timed out", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := 0
			got, _, err := ask(t, serverOf(func(*http.Request) *http.Response {
				if asked++; asked <= test.busy {
					return reply(test.status, test.kind, test.body)
				}
				return reply(200, jsonKind, one)
			}))
			if asked != test.asked {
				t.Errorf("asked %d times, want %d", asked, test.asked)
			}
			if test.err == "" && (err != nil || len(got) != 1) || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("got %q, error %v, want %q", got, err, test.err)
			}
		})
	}
}

func TestGatewayThatOnlyReads(t *testing.T) {
	got, _, err := ask(t, serverOf(func(r *http.Request) *http.Response {
		if r.Method != http.MethodGet {
			return reply(405, "text/plain", "GET only")
		}
		if r.URL.Query().Get("query") != `up{job="nictune"}` {
			t.Errorf("asked for %s", r.URL)
		}
		return reply(200, jsonKind, one)
	}))
	if err != nil || len(got) != 1 {
		t.Errorf("got %q, error %v", got, err)
	}
}

func TestLimit(t *testing.T) {
	s := serverOf(func(*http.Request) *http.Response { return reply(200, jsonKind, one) })
	s.MaxAnswer = int64(len(one))
	if _, _, err := ask(t, s); err != nil {
		t.Errorf("an answer as long as allowed: %v", err)
	}
	s.MaxAnswer--
	if _, _, err := ask(t, s); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("more than %d bytes", len(one)-1)) {
		t.Errorf("an answer that is too long: %v", err)
	}
}

// The samples arrive while the answer is still under way.
func TestAnswerIsStreamed(t *testing.T) {
	arrived := make(chan struct{})
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", jsonKind)
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"instance":"a"},"value":[1,"2"]},`)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-arrived:
		case <-time.After(30 * time.Second):
			t.Error("the first sample was not handed on before the last was sent")
		}
		_, _ = io.WriteString(w, `{"metric":{"instance":"b"},"value":[1,"3"]}]}}`)
	}))
	defer ts.Close()
	address, err := promql.Parse(ts.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := &promql.Server{URL: address, HTTP: ts.Client()}
	n := 0
	if _, err := s.Query(t.Context(), "up", noon, func(promql.Sample) error {
		if n++; n == 1 {
			close(arrived)
		}
		return nil
	}); err != nil || n != 2 {
		t.Errorf("%d samples, error %v", n, err)
	}
}

func TestEndedEarly(t *testing.T) {
	enough := errors.New("enough")
	s := serverOf(func(*http.Request) *http.Response { return reply(200, jsonKind, one) })
	if _, err := s.Query(t.Context(), "up", noon, func(promql.Sample) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error %v, want the callback's", err)
	}
	ts := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server doesn't see that the client leaves
		<-r.Context().Done()
	}))
	defer ts.Close()
	address, _ := promql.Parse(ts.URL)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := (&promql.Server{URL: address, HTTP: ts.Client()}).Query(ctx, "up", noon, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that does not answer: %v", err)
	}
}

func TestSeries(t *testing.T) {
	var form url.Values
	s := serverOf(func(r *http.Request) *http.Response {
		body, _ := io.ReadAll(r.Body)
		form, _ = url.ParseQuery(string(body))
		return reply(200, jsonKind, `{"status":"success","data":[{"__name__":"x","instance":"a"},{"__name__":"x"}]}`)
	})
	var got []map[string]string
	if _, err := s.Series(t.Context(), "x", noon.Add(-time.Hour), noon, func(labels map[string]string) error {
		got = append(got, maps.Clone(labels))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != "[map[__name__:x instance:a] map[__name__:x]]" {
		t.Errorf("got %v", got)
	}
	if form.Get("match[]") != "x" || form.Get("start") != "1801393200.500" || form.Get("end") != "1801396800.500" {
		t.Errorf("sent %v", form)
	}
}

func TestParse(t *testing.T) {
	for address, want := range map[string]string{
		"http://localhost:9090":             "http://localhost:9090",
		"http://localhost:9090/":            "http://localhost:9090",
		"https://h/prometheus/api/v1":       "https://h/prometheus",
		"https://h/select/0/prometheus/":    "https://h/select/0/prometheus",
		"localhost:9090":                    "",
		"":                                  "",
		"ftp://h":                           "",
		"http://u:secret@h":                 "",
		"http://h/?a=b":                     "",
		"http://[::1":                       "",
		"unix:///run/prometheus.sock":       "",
		"http:///no-host":                   "",
		"http://h/graph#x":                  "",
		"https://h:8443/a/b/api/v1/":        "https://h:8443/a/b",
		"https://h/with%20space/prometheus": "https://h/with%20space/prometheus",
	} {
		got, err := promql.Parse(address)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is taken for %s", address, got)
		case want == "" && strings.Contains(err.Error(), "secret"):
			t.Errorf("the password is in the error: %v", err)
		case want != "" && (err != nil || got.String() != want):
			t.Errorf("%q: %v, error %v, want %s", address, got, err, want)
		}
	}
}

// FuzzAnswer: no answer makes a query panic, or hands on a sample without an error and
// without having one.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(one))
	f.Add([]byte(`{"status":"success","isPartial":true,"data":{"resultType":"vector","result":null},"warnings":["a"]}`))
	f.Add([]byte(`{"status":"error","errorType":"bad_data","error":"x"}`))
	f.Add([]byte(`{"status":"success","data":{"result":[{"metric":null,"value":[1,"NaN"]},{"metric":{"a":"b"},"value":null}]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s := serverOf(func(*http.Request) *http.Response {
			r := reply(200, jsonKind, "")
			r.Body = io.NopCloser(bytes.NewReader(body))
			return r
		})
		n := 0
		_, err := s.Query(context.Background(), "up", noon, func(p promql.Sample) error {
			n++
			if p.Labels == nil {
				t.Error("a sample without labels")
			}
			if math.IsInf(p.Value, 0) && !bytes.ContainsAny(body, "iIeE") && len(body) < 300 {
				t.Errorf("%g out of %q", p.Value, body)
			}
			return nil
		})
		if err == nil && !bytes.Contains(body, []byte("success")) && !bytes.Contains(body, []byte(`\u`)) {
			t.Errorf("%q passes for an answer", body)
		}
	})
}
