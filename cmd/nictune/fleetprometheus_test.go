package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nictune/nictune/audit"
	"github.com/nictune/nictune/findings"
	"github.com/nictune/nictune/fleet"
	"github.com/nictune/nictune/internal/kernel"
	"github.com/nictune/nictune/internal/kernel/uapi"
	"github.com/nictune/nictune/inventory"
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

// A real Prometheus, and a real VictoriaMetrics, scrape real agents of recorded hosts, and
// a fleet's report from either says what one from the hosts' own audits says, as far as
// both can know: in sum, and host by host. Both obey the same policies of all kinds, and
// one host has a module. A host that can't be scraped is missing.
func TestFleetFromPrometheusAgrees(t *testing.T) {
	names := []string{"lab-nics", "lab-numa", "lab-vfs"}
	audits := t.TempDir()
	wanted := writeFile(t, "policies.yaml", fleetPolicies(time.Now().UTC()))
	var instances []string
	for _, name := range names {
		recording := recordingNamed(t, name, name)
		if name == "lab-nics" {
			recording = withModule(t, recording, "eth1", moduleDumps+"sfp-10g-sr-finisar-ftlx8571d3bcl-auj0rcj.hex")
		}
		instances = append(instances, auditedAgent(t, name, recording, wanted, audits))
	}
	gone := unused(t)
	for _, server := range metricsServers() {
		t.Run(server.name, func(t *testing.T) {
			address := server.serve(t, tool(t, server.name), scraping(append(slices.Clone(instances), gone), ""))
			agreesWith(t, address, names, audits, gone)
		})
	}
}

// recordingNamed is a recorded host with this name. The lab's hosts have none, and a fleet's must.
func recordingNamed(t *testing.T, file, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "hosts", file+".txtar"))
	if err != nil {
		t.Fatal(err)
	}
	named := strings.Replace(string(text), "\n(none)\n", "\n"+name+"\n", 1)
	if named == string(text) {
		t.Fatalf("%s has a name already", file)
	}
	return writeFile(t, name+".txtar", named)
}

// auditedAgent audits a recorded host by policies, and starts an agent of it, whose address it returns.
func auditedAgent(t *testing.T, name, recording, wanted, audits string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if exit := run(t.Context(), []string{"audit", "--host", recording, "-f", wanted, "-o", "json"}, &out, &errs); exit == exitError {
		t.Fatalf("nictune audit of %s: exit %d: %s", name, exit, &errs)
	}
	if err := os.WriteFile(filepath.Join(audits, name+".json"), out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return startInProcess(t, "--host", recording, "-f", wanted).address(t)
}

// Of hosts on which nothing fails the server is asked for sums, and of such that are alike for
// one of them: that comes to what their audits say, host for host.
func TestFleetOfHostsThatAreWell(t *testing.T) {
	audits := t.TempDir()
	wanted := writeFile(t, "policies.yaml", `apiVersion: nictune/v1
kind: CheckPolicy
name: calm
match: {}
rules: {offload/not-in-force: "off", pcie/below-slot: "off", sriov/unbound: "off", xdp/native-blocked: "off"}
---
apiVersion: nictune/v1
kind: CheckPolicy
name: calm-bonds
match: {kind: virtual}
rules: {xdp/native-blocked: "off"}
`)
	var instances []string
	for name, file := range map[string]string{"twin-1": "lab-vfs", "twin-2": "lab-vfs", "twin-3": "lab-vfs", "other": "lab-nics", "another": "lab-numa"} {
		instances = append(instances, auditedAgent(t, name, recordingNamed(t, file, name), wanted, audits))
	}
	for _, server := range metricsServers() {
		t.Run(server.name, func(t *testing.T) {
			address := server.serve(t, tool(t, server.name), scraping(instances, ""))
			awaitJudged(t, address, len(instances), 0)
			asked := wholeReport(t, "--prometheus", "http://"+address, "--window", "0")
			sameFigures(t, asked, wholeReport(t, "--reports", audits))
			if asked.Scope.Hosts != len(instances) || asked.Counts[findings.Fail] != 0 || asked.Counts[findings.Pass] < 300 || len(asked.Readiness) == 0 || len(asked.VFs.Drivers) == 0 {
				t.Errorf("too little to agree on, or not all is well: %d hosts, %v, readiness %+v, VFs %+v", asked.Scope.Hosts, asked.Counts, asked.Readiness, asked.VFs)
			}
		})
	}
}

// agreesWith holds the report from a server against the one from audits.
func agreesWith(t *testing.T, address string, names []string, audits, gone string) {
	t.Helper()
	awaitJudged(t, address, len(names), 1)
	fromServer := []string{"--prometheus", "http://" + address, "--window", "0"}
	asked, read := wholeReport(t, fromServer...), wholeReport(t, "--reports", audits)
	if m := asked.Scope.Missing; m.Count != 1 || m.Hosts[0].Name != gone {
		t.Errorf("missing: %+v, want %s", m, gone)
	}
	sameFigures(t, asked, read)
	if len(asked.Rules) < 50 || asked.Counts[findings.Pass] == 0 || asked.Counts[findings.Fail] == 0 || asked.Scope.VFs == 0 || asked.VFs.Known == 0 {
		t.Errorf("too little to agree on: %d rules, %v, VFs %+v", len(asked.Rules), asked.Counts, asked.VFs)
	}
	if w := asked.Waivers; w.Active == 0 || w.Expiring == 0 || w.Expired == 0 || asked.Drift.Drifted == 0 || len(asked.Optics.Lowest) == 0 || len(asked.Hosts.Worst) == 0 {
		t.Errorf("too little to agree on: waivers %+v, drift %+v, optics %+v, worst hosts %+v", w, asked.Drift, asked.Optics, asked.Hosts)
	}
	if !slices.ContainsFunc(asked.Waivers.List, func(w fleet.WaiverRow) bool { return w.State == fleet.WaiverExpired && w.Subjects == 0 }) ||
		!slices.ContainsFunc(asked.Waivers.List, func(w fleet.WaiverRow) bool { return w.State == fleet.WaiverActive && w.Subjects == 0 }) {
		t.Errorf("waivers that nothing needs are not all there: %+v", asked.Waivers.List)
	}
	for _, name := range names {
		sameOfHost(t, name, fromServer, audits)
	}
}

// metricsServer is a server that a fleet's report can be asked of.
type metricsServer struct {
	name string
	// serve runs it with a configuration of Prometheus.
	serve func(t *testing.T, program, configuration string) (address string)
}

func metricsServers() []metricsServer {
	return []metricsServer{{"prometheus", startPrometheus}, {"victoria-metrics", startVictoriaMetrics}}
}

// awaitJudged waits until a server knows so many hosts as judged, and so many as down.
func awaitJudged(t *testing.T, address string, hosts, gone int) {
	t.Helper()
	for i := 0; ; i++ {
		judged, _ := query(address, "nictune_audit_timestamp_seconds and on (instance) nictune_nic_info")
		down, _ := query(address, "up == 0")
		if len(judged) == hosts && len(down) == gone {
			return
		}
		if i == 1200 {
			t.Fatalf("after two minutes %d hosts are judged, and %d are down", len(judged), len(down))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// wholeReport is a fleet's report with lists that leave nothing out.
func wholeReport(t *testing.T, args ...string) *fleet.Report {
	t.Helper()
	var out, errs bytes.Buffer
	if got := run(t.Context(), append([]string{"fleet", "report", "--max-age", "0", "--top", "500", "-o", "json"}, args...), &out, &errs); got == exitError {
		t.Fatalf("nictune fleet report %q: %s", args, &errs)
	}
	r, err := fleet.Decode(&out)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sameFigures compares what two reports say of all hosts together.
func sameFigures(t *testing.T, asked, read *fleet.Report) {
	t.Helper()
	// What Prometheus doesn't know is left out: reasons of waivers, and machine ids. It knows
	// when agents judged, which is now; the audits are as old as the recordings.
	for _, r := range []*fleet.Report{asked, read} {
		for i := range r.Waivers.List {
			r.Waivers.List[i].Reason = ""
		}
		for i := range r.Hosts.Worst {
			r.Hosts.Worst[i].MachineID, r.Hosts.Worst[i].CollectedAt = "", time.Time{}
		}
	}
	for what, both := range map[string][2]any{
		"hosts": {asked.Scope.Hosts, read.Scope.Hosts}, "NICs": {asked.Scope.NICs, read.Scope.NICs}, "VFs": {asked.Scope.VFs, read.Scope.VFs},
		"counts": {asked.Counts, read.Counts}, "severities": {asked.Severities, read.Severities},
		"rules":  {untitled(asked.Rules), untitled(read.Rules)},
		"models": {asked.Models, read.Models}, "drivers": {asked.Drivers, read.Drivers}, "firmware": {asked.Firmware, read.Firmware},
		"links": {asked.Links, read.Links}, "PCIe": {asked.PCIe, read.PCIe}, "flaps": {asked.Flaps, read.Flaps},
		"readiness": {asked.Readiness, read.Readiness}, "waivers": {asked.Waivers, read.Waivers},
		"drift": {asked.Drift, read.Drift}, "optics": {asked.Optics, read.Optics}, "outliers": {asked.Outliers, read.Outliers}, "worst hosts": {asked.Hosts, read.Hosts},
		"use of VFs": {asked.VFs, read.VFs},
	} {
		sameSaid(t, what, both[0], both[1])
	}
}

// sameOfHost compares what two sources say of one host.
func sameOfHost(t *testing.T, name string, fromServer []string, audits string) {
	t.Helper()
	one, own := wholeReport(t, append(slices.Clone(fromServer), "--host", name)...), wholeReport(t, "--reports", audits, "--host", name)
	if len(one.Details) != 1 || len(own.Details) != 1 {
		t.Fatalf("%s: %d and %d hosts", name, len(one.Details), len(own.Details))
	}
	a, b := &one.Details[0], &own.Details[0]
	sameSaid(t, name+": kernel", a.Kernel, b.Kernel)
	sameSaid(t, name+": virtual machine", a.VirtualMachine, b.VirtualMachine)
	sameSaid(t, name+": verdicts", a.Verdicts, b.Verdicts)
	sameSaid(t, name+": findings", said(a), said(b))
	for _, h := range []*fleet.Host{a, b} {
		h.Drift = slices.DeleteFunc(h.Drift, func(d fleet.Drift) bool { return d.Status == audit.AsWanted }) // of which it knows the number
		for i := range h.Waivers {
			h.Waivers[i].Reason = ""
		}
	}
	sameSaid(t, name+": drift", a.Drift, b.Drift)
	sameSaid(t, name+": waivers", a.Waivers, b.Waivers)
	for _, h := range []*fleet.Host{a, b} {
		slices.SortFunc(h.NICs, func(x, y fleet.NIC) int { return strings.Compare(x.Device+x.Address, y.Device+y.Address) })
		for i := range h.NICs {
			if h.NICs[i].Kind == string(inventory.VF) {
				h.NICs[i].PCIe, h.NICs[i].PhysicalFunction = nil, "" // the metrics don't say either of a VF
			}
		}
	}
	if len(a.NICs) != len(b.NICs) {
		t.Fatalf("%s: %d and %d NICs", name, len(a.NICs), len(b.NICs))
	}
	for i := range a.NICs {
		sameSaid(t, name+": "+a.NICs[i].Device, a.NICs[i], b.NICs[i])
	}
}

// fleetPolicies are policies of all kinds. One has the name of one that nictune ships, and
// the waivers are one that holds, one that ends soon and one that has ended, and two that nothing
// needs, of which one has ended.
func fleetPolicies(now time.Time) string {
	day := func(days int) string { return now.AddDate(0, 0, days).Format(time.DateOnly) }
	return fmt.Sprintf(`apiVersion: nictune/v1
kind: TuningPolicy
name: throughput
match: {driver: [igb, e1000e]}
settings:
  rings: {rx: 512}
  features: {rx-gro: on}
---
apiVersion: nictune/v1
kind: TuningPolicy
name: impossible
match: {driver: e1000e}
settings: {rss: {equal: 2}}
optional: true
---
apiVersion: nictune/v1
kind: RulePolicy
name: house-rules
match: {driver: igb}
rules:
  user/rx-ring: {severity: warning, title: small rings, why: They overrun., remedy: Make them larger., expect: nic.queues.rings.rx.current >= 512}
---
apiVersion: nictune/v1
kind: CheckPolicy
name: holds
match: {name: eth1}
waivers: [{rule: user/rx-ring, reason: ordered, owner: ann@example.org, expires: %q}]
---
apiVersion: nictune/v1
kind: CheckPolicy
name: ends
match: {name: eth2}
waivers: [{rule: pcie/below-slot, reason: ordered, owner: bob@example.org, expires: %q}]
---
apiVersion: nictune/v1
kind: CheckPolicy
name: ended
match: {name: eth3}
waivers: [{rule: pcie/below-slot, reason: ordered, owner: eve@example.org, expires: %q}]
---
apiVersion: nictune/v1
kind: CheckPolicy
name: needless
match: {name: eth1}
waivers:
- {rule: link/down, reason: mended since, owner: eve@example.org, expires: %q}
- {rule: link/down, reason: in case, owner: ann@example.org, expires: %q}
`, day(90), day(5), day(-3), day(-1), day(60))
}

// withModule records a recorded host anew, with a module in one of its NICs: none of the
// lab's has one.
func withModule(t *testing.T, recording, device, dump string) string {
	t.Helper()
	text, err := os.ReadFile(recording)
	if err != nil {
		t.Fatal(err)
	}
	r, err := kernel.ParseRecording(text)
	if err != nil {
		t.Fatal(err)
	}
	inv, err := inventory.Read(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(inv.NICs, func(n inventory.NIC) bool { return n.Name == device })
	if i < 0 {
		t.Fatalf("%s has no %s", recording, device)
	}
	plugged := &pluggedIn{Reader: r, index: uint32(inv.NICs[i].Index), memory: map[uint8][]byte{}}
	if text, err = os.ReadFile(dump); err != nil {
		t.Fatal(err)
	}
	var address uint8
	for line := range strings.Lines(string(text)) {
		switch line = strings.TrimSpace(line); {
		case line == "[a0]":
			address = 0x50
		case line == "[a2]":
			address = 0x51
		case line != "" && line[0] != '#':
			b, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
			if err != nil {
				t.Fatalf("%s: %v", dump, err)
			}
			plugged.memory[address] = append(plugged.memory[address], b...)
		}
	}
	recorder := kernel.NewRecorder(plugged, kernel.RecordingHeader{Nictune: "test", Recorded: time.Now().UTC()})
	if err := ask(t.Context(), recorder, true, true); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := recorder.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return writeFile(t, filepath.Base(recording), out.String())
}

// pluggedIn is a host with an SFP in one NIC, whose memory netlink shows.
type pluggedIn struct {
	kernel.Reader
	index  uint32
	memory map[uint8][]byte
}

func (p *pluggedIn) Netlink(ctx context.Context, request kernel.Request) ([]kernel.Message, error) {
	if request.Family != kernel.FamilyEthtool || request.Command != uapi.ETHTOOL_MSG_MODULE_EEPROM_GET {
		return p.Reader.Netlink(ctx, request)
	}
	var index uint32
	var address uint8
	var offset, length int
	attributes := kernel.AttributesOf(request.Body)
	for attributes.Next() {
		switch attributes.Type {
		case uapi.ETHTOOL_A_MODULE_EEPROM_HEADER:
			header := attributes.Nested()
			for header.Next() {
				if header.Type == uapi.ETHTOOL_A_HEADER_DEV_INDEX {
					index = header.Uint32()
				}
			}
		case uapi.ETHTOOL_A_MODULE_EEPROM_OFFSET:
			offset = int(attributes.Uint32())
		case uapi.ETHTOOL_A_MODULE_EEPROM_LENGTH:
			length = int(attributes.Uint32())
		case uapi.ETHTOOL_A_MODULE_EEPROM_I2C_ADDRESS:
			address = attributes.Uint8()
		}
	}
	memory := p.memory[address]
	switch {
	case index != p.index:
		return nil, &kernel.Error{Op: "ethtool MODULE_EEPROM_GET", Err: syscall.EOPNOTSUPP}
	case offset+length > len(memory):
		return nil, &kernel.Error{Op: "ethtool MODULE_EEPROM_GET", Err: syscall.EINVAL}
	}
	return []kernel.Message{{Body: kernel.Body{}.Bytes(uapi.ETHTOOL_A_MODULE_EEPROM_DATA, memory[offset:offset+length])}}, nil
}

// servePrometheus scrapes targets every second, with a file of rules where one is named,
// and says where it answers.
func servePrometheus(t *testing.T, program string, targets []string, rules string) (address string) {
	t.Helper()
	if rules != "" {
		rules = "rule_files: [" + rules + "]\n"
	}
	return startPrometheus(t, program, scraping(targets, rules))
}

// scraping is a configuration with more in it.
func scraping(targets []string, more string) string {
	return fmt.Sprintf(`global: {scrape_interval: 1s}
scrape_configs:
  - {job_name: nictune, static_configs: [{targets: ["%s"]}]}
%s`, strings.Join(targets, `", "`), more)
}

// startPrometheus runs it with a configuration.
func startPrometheus(t *testing.T, program, configuration string) (address string) {
	t.Helper()
	address = unused(t)
	startServer(t, program, "--config.file="+writeFile(t, "prometheus.yml", configuration), "--storage.tsdb.path="+filepath.Join(t.TempDir(), "data"), "--web.listen-address="+address)
	return address
}

// startVictoriaMetrics runs it with a configuration of Prometheus.
func startVictoriaMetrics(t *testing.T, program, configuration string) (address string) {
	t.Helper()
	address = unused(t)
	startServer(t, program, "-promscrape.config="+writeFile(t, "prometheus.yml", configuration), "-storageDataPath="+filepath.Join(t.TempDir(), "data"), "-httpListenAddr="+address, "-memory.allowedBytes=256MB", "-search.latencyOffset=1s")
	return address
}

// unused is an address of loopback where nobody listens.
func unused(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	return free.Addr().String()
}

func startServer(t *testing.T, program string, args ...string) {
	t.Helper()
	var log lockedBuffer
	cmd := exec.Command(program, args...)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s logged:\n%s", filepath.Base(program), &log)
		}
	})
}

// untitled are rules without what Prometheus doesn't know.
func untitled(rules []fleet.RuleTotal) []fleet.RuleTotal {
	for i := range rules {
		rules[i].Title = ""
	}
	return rules
}

// said are a host's findings without what Prometheus doesn't know, in order.
func said(h *fleet.Host) []string {
	var all []string
	for _, f := range h.Findings {
		all = append(all, fmt.Sprintf("%s %s %s %s %s", f.Rule, f.Severity, f.Status, f.NIC, f.Part))
	}
	slices.Sort(all)
	return all
}

// sameSaid compares what two sources say, as JSON.
func sameSaid(t *testing.T, what string, asked, read any) {
	t.Helper()
	a, err := json.Marshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(read)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%s: Prometheus says\n%s\nand the audits\n%s", what, a, b)
	}
}

// Where Prometheus has the shipped recording rules loaded, a report takes what is lost in
// a day from them, and says the same as without them.
func TestFleetUsesRecordedSeries(t *testing.T) {
	loopback(t)
	prometheus := tool(t, "prometheus")
	rules, err := os.ReadFile("../../exporters/mixin/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// The interval apart they are loaded as they are.
	often := strings.Replace(string(rules), "interval: 1m", "interval: 1s", 1)
	if often == string(rules) {
		t.Fatal("rules.yaml has no interval of a minute")
	}
	for _, test := range []struct {
		name, rules, asks, not string
	}{
		{"with the rules", writeFile(t, "rules.yaml", often), "max by (cluster, instance, job, device) (instance_device:nictune_network_carrier_down_changes:increase1d{", "increase("},
		{"without them", "", "increase(nictune_network_carrier_down_changes_total{", "nothing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel() // each waits for samples
			var instances []string
			for host := range 2 {
				var scrapes atomic.Int64
				target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					lost := 0
					if host == 1 && scrapes.Add(1) > 5 {
						lost = 3
					}
					fmt.Fprintf(w, `nictune_host_info{hostname="host-%d",kernel="6.12",virtual_machine="false"} 1
nictune_audit_timestamp_seconds %d
nictune_rule_findings{rule="link/down",severity="warning",status="pass"} 2
nictune_nic_info{device="eth0",kind="plain",driver="igb",pci_address="0000:01:00.0"} 1
nictune_nic_info{device="eth1",kind="plain",driver="igb",pci_address="0000:01:00.1"} 1
nictune_network_carrier_down_changes_total{device="eth0"} 7
nictune_network_carrier_down_changes_total{device="eth1"} %d
`, host, time.Now().Unix(), lost)
				}))
				t.Cleanup(target.Close)
				instances = append(instances, target.Listener.Addr().String())
			}
			address := servePrometheus(t, prometheus, instances, test.rules)
			// With fewer samples what increase() adds for the time before the first is more than half a loss.
			ready := `count(count_over_time(nictune_network_carrier_down_changes_total{device="eth1"}[5m]) >= 15) == 2 and count(nictune_network_carrier_down_changes_total == 3) == 1`
			if test.rules != "" {
				ready += ` and count(instance_device:nictune_network_carrier_down_changes:increase1d) == 4 and count(instance_device:nictune_network_carrier_down_changes:increase1d > 2.5) == 1`
			}
			for i := 0; ; i++ {
				if rows, _ := query(address, ready); len(rows) == 1 {
					break
				}
				if i == 900 {
					t.Fatalf("after a minute and a half there is nothing by %s", ready)
				}
				time.Sleep(100 * time.Millisecond)
			}
			between, asked := overheard(t, address)
			var out, errs bytes.Buffer
			if got := run(t.Context(), []string{"fleet", "report", "--prometheus", between, "-o", "json"}, &out, &errs); got == exitError {
				t.Fatalf("nictune fleet report: %s", &errs)
			}
			r, err := fleet.Decode(&out)
			if err != nil {
				t.Fatal(err)
			}
			if f := r.Flaps; f.Counted != 4 || f.Flapped != 1 || f.Downs != 3 || len(f.Worst) != 1 || f.Worst[0].Host != "host-1" || f.Worst[0].Device != "eth1" {
				t.Errorf("lost links: %+v", f)
			}
			all := strings.Join(asked(), "\n")
			if !strings.Contains(all, test.asks) || strings.Contains(all, test.not) {
				t.Errorf("want a query with %s and none with %s in\n%s", test.asks, test.not, all)
			}
		})
	}
}

// What an agent said an hour ago is old, since agents judge every few minutes. A clock that
// is an hour behind looks the same; one that is ahead is named as such.
func TestFleetFromPrometheusIsOfToday(t *testing.T) {
	loopback(t)
	judged := map[string]time.Duration{"fresh:1": -4 * time.Minute, "behind:1": -62 * time.Minute, "ahead:1": 58 * time.Minute}
	now := time.Now()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.PostFormValue("query")
		var rows []string
		for instance, ago := range judged {
			value := int64(1)
			switch {
			case strings.HasSuffix(r.URL.Path, "/series"):
				continue
			case strings.Contains(query, "nictune_audit_timestamp_seconds"):
				value = now.Add(ago).Unix()
			case !strings.Contains(query, "nictune_host_info") && !strings.Contains(query, "(up{"):
				continue
			}
			rows = append(rows, fmt.Sprintf(`{"metric":{"job":"nictune","instance":%q,"hostname":%q},"value":[1,"%d"]}`, instance, instance[:len(instance)-2], value))
		}
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/series") {
			_, _ = io.WriteString(w, `{"status":"success","data":[]}`)
			return
		}
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[%s]}}`, strings.Join(rows, ","))
	}))
	defer server.Close()
	for _, test := range []struct {
		args         []string
		hosts, stale int
	}{
		{nil, 1, 1},
		{[]string{"--max-age", "2h"}, 2, 0},
	} {
		var out, errs bytes.Buffer
		if got := run(t.Context(), append([]string{"fleet", "report", "--prometheus", server.URL, "-o", "json"}, test.args...), &out, &errs); got != exitDifferences {
			t.Fatalf("nictune fleet report: exit %d: %s", got, &errs)
		}
		r, err := fleet.Decode(&out)
		if err != nil {
			t.Fatal(err)
		}
		if s := r.Scope; s.Hosts != test.hosts || s.Stale.Count != test.stale || s.Ahead.Count != 1 || s.Ahead.Hosts[0].Name != "ahead" {
			t.Errorf("%v: %d hosts, stale %+v, ahead %+v", test.args, s.Hosts, s.Stale, s.Ahead)
		}
	}
}

// What hosts and their targets are called comes through a real Prometheus as it is, finds
// its host again, and adds no markup, rows, formulas or terminal sequences to a report.
func TestFleetFromPrometheusIsHostile(t *testing.T) {
	loopback(t)
	prometheus := tool(t, "prometheus")
	const (
		host     = "=cmd|' /C calc'!A0<script>alert(1)</script>\n| evil | row |\x1b[31m\"\\ `x` $(y) \u202e"
		firmware = "+1<img src=x onerror=alert(2)>\n# row\x1b]0;owned\a"
		instance = "@sum(\"})) or vector(1) #.*|\\ <b>[x]</b>\n\x1b[2J:9810"
	)
	escaped := strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `nictune_host_info{hostname="%s",kernel="6.12",virtual_machine="false"} 1
nictune_audit_timestamp_seconds %d
nictune_rule_findings{rule="link/down",severity="warning",status="fail"} 1
nictune_finding{rule="link/down",severity="warning",status="fail",device="eth0",pci_address="0000:01:00.0"} 1
nictune_nic_info{device="eth0",kind="plain",driver="igb",firmware="%s",pci_address="0000:01:00.0",model="%[3]s"} 1
nictune_network_carrier{device="eth0"} 0
`, escaped.Replace(host), time.Now().Unix(), escaped.Replace(firmware))
	}))
	defer target.Close()
	labels, err := json.Marshal(map[string]string{"instance": instance})
	if err != nil {
		t.Fatal(err)
	}
	address := startPrometheus(t, prometheus, fmt.Sprintf(`global: {scrape_interval: 1s}
scrape_configs:
  - {job_name: nictune, static_configs: [{targets: ["%s"], labels: %s}]}
`, target.Listener.Addr(), labels))
	for i := 0; ; i++ {
		if rows, _ := query(address, "nictune_network_carrier"); len(rows) == 1 {
			break
		}
		if i == 600 {
			t.Fatal("after a minute nothing is scraped")
		}
		time.Sleep(100 * time.Millisecond)
	}
	report := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if got := run(t.Context(), append([]string{"fleet", "report", "--prometheus", "http://" + address}, args...), &out, &errs); got != exitDifferences {
			t.Fatalf("nictune fleet report %q: exit %d: %s", args, got, &errs)
		}
		return out.String()
	}
	for _, name := range []string{host, instance} {
		r, err := fleet.Decode(strings.NewReader(report("-o", "json", "--host", name)))
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Details) != 1 || r.Details[0].Name != name || len(r.Details[0].NICs) != 1 || r.Details[0].NICs[0].Firmware != firmware || r.Links.Down != 1 {
			t.Errorf("--host %q: %+v", name, r.Details)
		}
	}
	markup, terminal, rows := []string{"<script>alert", "<img src", "<b>[x]"}, []string{"\x1b", "\a", "\u202e"}, []string{"\n| evil", "\n# row"}
	for format, never := range map[string][]string{
		"html": slices.Concat(markup, terminal), "markdown": slices.Concat(markup, terminal, rows), "text": slices.Concat(terminal, rows),
	} {
		text := report("-o", format)
		for _, raw := range never {
			if strings.Contains(text, raw) {
				t.Errorf("-o %s has %q", format, raw)
			}
		}
		if !strings.Contains(text, "alert(2)") && !strings.Contains(text, `alert\(2\)`) {
			t.Errorf("-o %s says nothing of the firmware", format)
		}
	}
	for _, table := range []string{"hosts", "firmware"} {
		rows, err := csv.NewReader(strings.NewReader(report("-o", "csv", "--table", table))).ReadAll()
		if err != nil || len(rows) != 2 {
			t.Errorf("--table %s: %d rows, want 2: %v", table, len(rows), err)
		}
		for _, row := range rows {
			for _, field := range row {
				if field != "" && strings.ContainsAny(field[:1], "=+@\t\r") {
					t.Errorf("--table %s: a formula: %q", table, field)
				}
			}
		}
	}
}

// overheard passes queries on to a server, and notes them.
func overheard(t *testing.T, address string) (base string, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var queries []string
	pass := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if form, err := url.ParseQuery(string(body)); err == nil {
			mu.Lock()
			queries = append(queries, form.Get("query"))
			mu.Unlock()
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(queries)
	}
}
