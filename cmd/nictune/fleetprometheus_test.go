package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lets answers queries of those who say who they are with nothing at all.
func lets(allowed func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case !allowed(r):
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"status":"error","errorType":"unauthorized","error":"who are you?"}`)
		case strings.HasSuffix(r.URL.Path, "/series"):
			_, _ = io.WriteString(w, `{"status":"success","data":[]}`)
		default:
			_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
		}
	})
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Credentials come from files: a token, a name with a password, a certificate.
func TestFleetLogsIn(t *testing.T) {
	loopback(t)
	token := httptest.NewServer(lets(func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer secret" }))
	defer token.Close()
	both := httptest.NewUnstartedServer(lets(func(r *http.Request) bool {
		user, password, ok := r.BasicAuth()
		return ok && user == "nictune" && password == "hunter2" && r.Header.Get("X-Scope-OrgID") == "edge" && len(r.TLS.PeerCertificates) == 1
	}))
	both.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	both.StartTLS()
	defer both.Close()
	key, err := x509.MarshalPKCS8PrivateKey(both.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	// The server's own certificate is its authority's, and the client's as well.
	ca := writeFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: both.Certificate().Raw})))
	keyFile := writeFile(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	config := writeFile(t, "http.yml", fmt.Sprintf(`basic_auth: {username: nictune, password: hunter2}
http_headers: {X-Scope-OrgID: {values: [edge]}}
tls_config: {ca_file: %s, cert_file: %s, key_file: %s}
`, ca, ca, keyFile))

	const in = "the server has no metrics of nictune" // it let us in, and has nothing
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"a token", []string{"--prometheus", token.URL, "--bearer-token-file", writeFile(t, "token", "secret\n")}, in},
		{"no token", []string{"--prometheus", token.URL}, "401 Unauthorized, unauthorized: who are you?"},
		{"a wrong token", []string{"--prometheus", token.URL, "--bearer-token-file", writeFile(t, "token", "guess")}, "who are you?"},
		{"no file", []string{"--prometheus", token.URL, "--bearer-token-file", "/nonexistent"}, "/nonexistent: no such file"},
		{"password, header and certificates", []string{"--prometheus", both.URL, "--http.config.file", config}, in},
		{"an unknown authority", []string{"--prometheus", both.URL}, "certificate signed by unknown authority"},
		{"a misspelt file", []string{"--prometheus", both.URL, "--http.config.file", writeFile(t, "http.yml", "basic_aut: {}\n")}, "field basic_aut not found"},
		{"two ways", []string{"--prometheus", token.URL, "--http.config.file", "a", "--bearer-token-file", "b"}, "[http.config.file bearer-token-file]"},
		{"a password in the address", []string{"--prometheus", "http://u:hunter2@localhost"}, "put them into a file"},
		{"reports as well", []string{"--prometheus", token.URL, "--reports", "x"}, "[prometheus reports]"},
		{"no time", []string{"--prometheus", token.URL, "--at", "yesterday"}, `--at "yesterday" is no time such as`},
		{"no label", []string{"--prometheus", token.URL, "--identity", "a-b"}, `--identity "a-b" is no name of a label`},
		{"a negative window", []string{"--prometheus", token.URL, "--window", "-1h"}, "--window -1h0m0s is negative"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			exit := run(t.Context(), append([]string{"fleet", "report"}, test.args...), &out, &errs)
			if exit != exitError || out.Len() > 0 || !strings.Contains(errs.String(), test.want) {
				t.Errorf("exit %d, output %q, error %q, want %q", exit, &out, &errs, test.want)
			}
			if strings.Contains(errs.String(), "hunter2") {
				t.Errorf("a password is in the error: %s", &errs)
			}
		})
	}
}
