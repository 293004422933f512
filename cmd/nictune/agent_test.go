package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/nictune/nictune/agent"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/lab/nstest"
)

// patience is how long a test waits for what is to come. The machine may be an emulated one,
// and do much else.
const patience = time.Minute

// comes waits until something is so, and reports whether that came while there was patience.
func comes(f func() bool) bool {
	for deadline := time.Now().Add(patience); !f(); time.Sleep(25 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// served is a running nictune agent.
type served struct {
	log *lockedBuffer
	// stop tells it to end; exit is its exit code then.
	stop func()
	exit chan int
}

// loopback makes 127.0.0.1 answer: a new namespace's is down.
func loopback(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 {
		nstest.IP(t, "link set lo up")
	}
}

// startInProcess runs nictune agent in this process, on a free port of loopback.
func startInProcess(t *testing.T, args ...string) *served {
	t.Helper()
	loopback(t)
	ctx, cancel := context.WithCancel(t.Context())
	s := &served{log: &lockedBuffer{}, stop: cancel, exit: make(chan int, 1)}
	go func() {
		s.exit <- run(ctx, append([]string{"agent", "--web.listen-address=127.0.0.1:0"}, args...), io.Discard, s.log)
	}()
	t.Cleanup(cancel)
	return s
}

// startProcess runs nictune as a process of its own, with what wrap makes of its
// command line.
func startProcess(t *testing.T, wrap func(*exec.Cmd), args ...string) *served {
	t.Helper()
	loopback(t)
	s := &served{log: &lockedBuffer{}, exit: make(chan int, 1)}
	cmd := exec.Command("/proc/self/exe", args...) // which another user may execute, too
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stderr = s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if wrap != nil {
		wrap(cmd)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.stop = func() { _ = cmd.Process.Signal(syscall.SIGTERM) }
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		s.exit <- cmd.ProcessState.ExitCode()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	return s
}

var listening = regexp.MustCompile(`msg="Listening on" address=(\S+)`)

// address waits until the agent listens.
func (s *served) address(t *testing.T) string {
	t.Helper()
	var m []string
	s.until(t, "an address", func() bool {
		m = listening.FindStringSubmatch(s.log.String())
		return m != nil
	})
	return m[1]
}

// end stops the agent, which must take that for a success.
func (s *served) end(t *testing.T) {
	t.Helper()
	s.stop()
	if exit := s.wait(t); exit != exitOK {
		t.Errorf("exit %d, want %d; it logged:\n%s", exit, exitOK, s.log)
	}
}

func (s *served) wait(t *testing.T) int {
	t.Helper()
	select {
	case exit := <-s.exit:
		return exit
	case <-time.After(patience):
		t.Fatalf("the agent has not ended after %v; it logged:\n%s", patience, s.log)
		return 0
	}
}

// get asks once, on a connection of its own.
func get(t *testing.T, url string, edit ...func(*http.Request, *http.Transport)) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	for _, e := range edit {
		e(request, transport)
	}
	client := &http.Client{Transport: transport, Timeout: patience}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

// ready waits until the host has been read.
func ready(t *testing.T, base string) {
	t.Helper()
	if !comes(func() bool { status, _ := get(t, base+"/-/ready"); return status == http.StatusOK }) {
		t.Fatalf("the agent is not ready after %v", patience)
	}
}

// scraped reads a page of metrics as Prometheus does.
func scraped(t *testing.T, page string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatalf("%v in\n%s", err, page)
	}
	return families
}

// nicInfo is the labels of nictune_nic_info of each device.
func nicInfo(t *testing.T, page string) map[string]map[string]string {
	t.Helper()
	devices := map[string]map[string]string{}
	for _, m := range scraped(t, page)["nictune_nic_info"].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		devices[labels["device"]] = labels
	}
	return devices
}

// The whole life of an agent: it starts, answers, and leaves nothing behind.
func TestAgentServesAndEnds(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "end0", "address 02:00:00:00:00:01 type veth peer name end1")
	before := runtime.NumGoroutine()
	sockets := openSockets(t)

	s := startInProcess(t)
	base := "http://" + s.address(t)
	ready(t, base)
	var status int
	var page string
	s.until(t, "a comparison", func() bool { // it is compared after it was read
		status, page = get(t, base+"/metrics")
		return strings.Contains(page, "\nnictune_policy_error ")
	})
	if status != http.StatusOK {
		t.Fatalf("metrics: %d: %s", status, page)
	}
	info := nicInfo(t, page)
	if got := info["end0"]; got["driver"] != "veth" || got["mac"] != "02:00:00:00:00:01" || got["kind"] != "virtual" {
		t.Errorf("nictune_nic_info of end0: %v", got)
	}
	if _, ok := info["lo"]; ok {
		t.Error("the loopback is among the NICs")
	}
	families := scraped(t, page)
	for _, name := range []string{"nictune_build_info", "nictune_network_receive_bytes_total", "nictune_policy_error", "go_goroutines", "process_open_fds"} {
		if families[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	if status, body := get(t, base+"/-/healthy"); status != http.StatusOK || body != "nictune is healthy.\n" {
		t.Errorf("healthy: %d: %q", status, body)
	}
	if status, _ := get(t, base+"/nothing"); status != http.StatusNotFound {
		t.Errorf("an unknown path: %d, want 404", status)
	}

	// Every link of the landing page leads somewhere.
	status, page = get(t, base+"/")
	if status != http.StatusOK || !strings.Contains(page, "NICs of this host") {
		t.Errorf("landing page: %d: %s", status, page)
	}
	links := regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(links) < 3 {
		t.Errorf("%d links on the landing page, want at least 3", len(links))
	}
	for _, l := range links {
		if status, _ := get(t, base+l[1]); status != http.StatusOK {
			t.Errorf("the landing page links to %s, which answers %d", l[1], status)
		}
	}

	s.end(t)
	if _, err := net.DialTimeout("tcp", strings.TrimPrefix(base, "http://"), time.Second); err == nil {
		t.Error("the agent has ended and something still listens")
	}
	if !comes(func() bool { return runtime.NumGoroutine() <= before && openSockets(t) <= sockets }) {
		stacks := make([]byte, 1<<16)
		t.Fatalf("%d goroutines and %d sockets were there before, %d and %d are after:\n%s", before, sockets,
			runtime.NumGoroutine(), openSockets(t), stacks[:runtime.Stack(stacks, true)])
	}
}

// openSockets counts this process's.
func openSockets(t *testing.T) (count int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(target, "socket:") {
			count++
		}
	}
	return count
}

// Nothing has been read before Run: the agent is healthy and not ready, and its
// metrics say nothing of NICs.
func TestAgentIsNotReadyBeforeItsFirstReading(t *testing.T) {
	replay, err := os.ReadFile(labHost)
	if err != nil {
		t.Fatal(err)
	}
	recorded, err := kernel.ParseRecording(replay)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{log: slog.New(slog.DiscardHandler)}
	keeper := agent.New(recorded, agent.Options{Timeout: time.Minute, Failed: func(err error) { t.Error(err) }})
	handler, err := a.handler(keeper, agentFlags{path: "/metrics"})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		return w
	}
	if w := ask("/-/ready"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("ready before the first reading: %d", w.Code)
	}
	if w := ask("/-/healthy"); w.Code != http.StatusOK {
		t.Errorf("healthy before the first reading: %d", w.Code)
	}
	if w := ask("/metrics"); w.Code != http.StatusOK || len(nicInfo(t, w.Body.String())) != 0 {
		t.Errorf("metrics before the first reading: %d: %s", w.Code, w.Body)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- keeper.Run(ctx) }()
	if !comes(func() bool { return ask("/-/ready").Code == http.StatusOK }) {
		t.Fatalf("not ready after %v", patience)
	}
	cancel()
	<-done
}

func TestAgentServesARecordedHost(t *testing.T) {
	nstest.IP(t, "link set lo up")
	s := startInProcess(t, "--host", labHost)
	base := "http://" + s.address(t)
	ready(t, base)
	_, page := get(t, base+"/metrics")
	info := nicInfo(t, page)
	if got := info["eth1"]; got["driver"] != "igb" || got["kind"] != "pf" || got["pci_address"] == "" || got["permanent_mac"] == "" {
		t.Errorf("nictune_nic_info of the recorded eth1: %v", got)
	}
	if _, page := get(t, base+"/"); !strings.Contains(page, labHost) {
		t.Errorf("the landing page doesn't say that this is not the running host:\n%s", page)
	}
	s.end(t)
}

func TestAgentTLSAndPassword(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir)
	config := filepath.Join(dir, "web.yml")
	// The hash is bcrypt's, of "s3cret".
	if err := os.WriteFile(config, []byte(`tls_server_config: {cert_file: cert.pem, key_file: key.pem}
basic_auth_users: {prometheus: $2a$04$.wmjJoq59ebYT.iPzwu8LufESn9ZPnxoKk2yAo0DHYKHrELxmzOXC}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startInProcess(t, "--host", labHost, "--web.config.file", config)
	address := s.address(t)
	trusting := func(_ *http.Request, transport *http.Transport) {
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	password := func(p string) func(*http.Request, *http.Transport) {
		return func(r *http.Request, _ *http.Transport) { r.SetBasicAuth("prometheus", p) }
	}
	for _, path := range []string{"/metrics", "/", "/-/ready"} {
		if status, body := get(t, "https://"+address+path, trusting); status != http.StatusUnauthorized || strings.Contains(body, "nictune_") {
			t.Errorf("%s without a password: %d: %s", path, status, body)
		}
	}
	if status, _ := get(t, "https://"+address+"/metrics", trusting, password("guess")); status != http.StatusUnauthorized {
		t.Errorf("with a wrong password: %d", status)
	}
	if status, page := get(t, "https://"+address+"/metrics", trusting, password("s3cret")); status != http.StatusOK || scraped(t, page)["nictune_build_info"] == nil {
		t.Errorf("with the password: %d: %s", status, page)
	}
	if status, _ := get(t, "http://"+address+"/metrics", password("s3cret")); status != http.StatusBadRequest {
		t.Errorf("without TLS: %d, want 400", status)
	}
	s.end(t)
}

// certificate writes cert.pem and key.pem, for 127.0.0.1.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}

// systemd hands over a listening socket as descriptor 3, and says so in the
// environment, with the number of the process that it is meant for.
func TestAgentTakesSystemdsSocket(t *testing.T) {
	loopback(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		t.Fatalf("%T", listener)
	}
	file, err := tcp.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := startProcess(t, func(cmd *exec.Cmd) {
		cmd.Path = "/bin/sh"
		cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, program}, cmd.Args[1:]...)
		cmd.Env = append(cmd.Env, "LISTEN_FDS=1")
		cmd.ExtraFiles = []*os.File{file}
	}, "agent", "--web.systemd-socket", "--host", labHost)
	if got := s.address(t); got != listener.Addr().String() {
		t.Errorf("it listens on %s, the socket is %s", got, listener.Addr())
	}
	base := "http://" + listener.Addr().String()
	ready(t, base)
	if status, page := get(t, base+"/metrics"); status != http.StatusOK || nicInfo(t, page)["eth1"] == nil {
		t.Errorf("metrics: %d: %s", status, page)
	}
	s.end(t)
}

func TestAgentWithoutSystemdsSocket(t *testing.T) {
	var log bytes.Buffer
	if exit := run(t.Context(), []string{"agent", "--web.systemd-socket", "--host", labHost}, io.Discard, &log); exit != exitError || !strings.Contains(log.String(), "no socket activation file descriptors") {
		t.Errorf("exit %d: %s", exit, &log)
	}
}

// Another user sees the same devices, drivers and addresses, and hears of changes,
// too.
func TestAgentRunsUnprivileged(t *testing.T) {
	nstest.Require(t)
	nstest.Link(t, "low0", "type veth peer name low1")
	nstest.Link(t, "low2", "type ifb")
	metrics := func(wrap func(*exec.Cmd)) map[string]map[string]string {
		s := startProcess(t, wrap, "agent", "--web.listen-address=127.0.0.1:0", "--pause=10ms")
		base := "http://" + s.address(t)
		ready(t, base)
		_, page := get(t, base+"/metrics")
		info := nicInfo(t, page)
		nstest.Link(t, "later0", "type ifb")
		s.until(t, "a new device", func() bool {
			_, page := get(t, base+"/metrics")
			return nicInfo(t, page)["later0"] != nil
		})
		nstest.IP(t, "link del later0")
		s.end(t)
		if strings.Contains(s.log.String(), "level=ERROR") {
			t.Errorf("the agent logged:\n%s", s.log)
		}
		return info
	}
	root := metrics(nil)
	nobody := metrics(func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	})
	if len(nobody) < 3 || fmt.Sprint(nobody) != fmt.Sprint(root) {
		t.Errorf("nobody sees\n%v\nroot sees\n%v", nobody, root)
	}
}

// Without a flag, nothing but this host reaches the agent.
// One CPU unless told otherwise, by flag or by Go's own variable, as node_exporter.
func TestAgentUsesOneCPU(t *testing.T) {
	for _, c := range []struct {
		environment string
		args        []string
		want        string
	}{
		{"", nil, "1"},
		{"", []string{"--runtime.gomaxprocs=2"}, "2"},
		{"3", nil, "3"},
		{"3", []string{"--runtime.gomaxprocs=2"}, "2"},
	} {
		t.Run(strings.Join(append(c.args, "environment", c.environment), " "), func(t *testing.T) {
			s := startProcess(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "GOMAXPROCS="+c.environment) },
				append([]string{"agent", "--host", labHost, "--web.listen-address=127.0.0.1:0"}, c.args...)...)
			status, body := get(t, "http://"+s.address(t)+"/metrics")
			if want := "\ngo_sched_gomaxprocs_threads " + c.want + "\n"; status != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("status %d, want%sin:\n%s", status, want, body)
			}
			s.end(t)
		})
	}
}

func TestAgentListensOnLoopbackOnly(t *testing.T) {
	nstest.Require(t) // whose port 9810 is free
	s := startProcess(t, nil, "agent", "--host", labHost)
	if got := s.address(t); got != "127.0.0.1:9810" {
		t.Errorf("it listens on %s", got)
	}
	for line := range strings.Lines(string(nstest.Run(t, "ss", "-H", "-l", "-n", "-t", "-u"))) {
		if fields := strings.Fields(line); len(fields) < 5 || !strings.HasPrefix(fields[4], "127.0.0.1:") {
			t.Errorf("a socket is open beyond loopback: %s", line)
		}
	}
	s.end(t)
}

func TestAgentRefusesToStart(t *testing.T) {
	loopback(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	broken := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(broken, []byte("tls_server_confg: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, want string
		args       []string
	}{
		{"address in use", taken.Addr().String() + ": bind: address already in use: does another agent run?", []string{"--web.listen-address", taken.Addr().String()}},
		{"no address", "--web.listen-address is empty", []string{"--web.listen-address="}},
		{"an empty address", "--web.listen-address is empty", []string{"--web.listen-address=127.0.0.1:0,"}},
		{"no such config", "no such file", []string{"--web.listen-address=127.0.0.1:0", "--web.config.file=/nonexistent.yml"}},
		{"a misspelt config", "tls_server_confg", []string{"--web.listen-address=127.0.0.1:0", "--web.listen-address=127.0.0.1:0", "--web.config.file", broken}},
		{"a path without a slash", `"metrics" is no path`, []string{"--web.telemetry-path=metrics"}},
		{"a path of a pattern", `"/{metrics}" is no path`, []string{"--web.telemetry-path=/{metrics}"}},
		{"an unclean path", `"//metrics" is no path`, []string{"--web.telemetry-path=//metrics"}},
		{"a path that is taken", `"/-/ready" is no path`, []string{"--web.telemetry-path=/-/ready"}},
		{"no time", "--timeout 0s leaves no time", []string{"--timeout=0"}},
		{"a negative interval", "--interval -1s", []string{"--interval=-1s"}},
		{"no CPU", "--runtime.gomaxprocs 0", []string{"--runtime.gomaxprocs=0"}},
		{"no such policy", "no such file", []string{"--policy=/nonexistent.yaml"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var log lockedBuffer
			exit := run(ctx, append([]string{"agent", "--host", labHost}, test.args...), io.Discard, &log)
			if ctx.Err() != nil || exit != exitError || !strings.Contains(log.String(), test.want) {
				t.Errorf("exit %d (%v), want %d and %q in\n%s", exit, ctx.Err(), exitError, test.want, log.String())
			}
		})
	}
}

// A scrape that is under way when the agent is told to end gets its answer.
func TestAgentEndsAfterTheScrapesUnderWay(t *testing.T) {
	loopback(t)
	var log lockedBuffer
	a := &app{log: slog.New(slog.NewTextHandler(&log, nil))}
	asked, answer := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-answer
		_, _ = io.WriteString(w, "late")
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.listen(ctx, handler, agentFlags{addresses: []string{"127.0.0.1:0"}}) }()
	address := (&served{log: &log}).address(t)
	body := make(chan string, 1)
	go func() {
		response, err := http.Get("http://" + address)
		if err != nil {
			body <- err.Error()
			return
		}
		defer response.Body.Close()
		b, err := io.ReadAll(response.Body)
		body <- fmt.Sprint(string(b), err)
	}()
	<-asked
	cancel()
	select {
	case err := <-ended:
		close(answer)
		t.Fatalf("it ended while a scrape was under way: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	close(answer)
	if b := <-body; b != "late<nil>" {
		t.Errorf("the scrape got %q", b)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
