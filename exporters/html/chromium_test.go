package html

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long the browser may take for anything. It is no measure of speed:
// it ends a test that hangs.
const patience = 2 * time.Minute

// browser is a headless Chromium, spoken to by the DevTools protocol over two pipes,
// so that no port is opened.
type browser struct {
	t       *testing.T
	in      *os.File
	session string

	mu      sync.Mutex
	last    int
	waiting map[int]chan answer
	// seen are the events of the page: what it said to the console, threw, asked for.
	seen []event
	gone chan struct{}
}

type answer struct {
	Result json.RawMessage
	Error  *struct{ Message string }
}

type event struct {
	Method string
	Params json.RawMessage
}

// newBrowser starts Chromium. Each request that a page makes is refused and noted,
// but for that of the page's own file.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		const missing = "no Chromium in the PATH: make setup installs it"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	down, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, up, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--no-default-browser-check",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars",
		"--force-color-profile=srgb", "--user-data-dir="+home, "--remote-debugging-pipe", "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+home, "TZ=UTC")
	cmd.ExtraFiles = []*os.File{down, up} // 3 and 4
	var stderr lastWords
	cmd.Stderr = &stderr
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	down.Close()
	up.Close()
	b := &browser{t: t, in: in, waiting: map[int]chan answer{}, gone: make(chan struct{})}
	go b.listen(out)
	t.Cleanup(func() {
		// It is asked to go, so that none of its processes writes to its home any more.
		_, _ = b.try(30*time.Second, "Browser.close", nil)
		in.Close()
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			cancel()
			<-ended
		}
		cancel()
		out.Close()
		if t.Failed() {
			for line := range strings.Lines(stderr.String()) {
				if !strings.Contains(line, "dbus/") { // there is none in CI
					t.Log("chromium said: ", strings.TrimSpace(line))
				}
			}
		}
		// What is left of them may still be writing: the directory goes when they let it.
		for range 50 {
			if os.RemoveAll(home) == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.mu.Lock()
	b.session = attached.SessionID
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log", "Network", "Audits"} {
		b.call(domain+".enable", nil, nil)
	}
	b.call("Network.emulateNetworkConditions", map[string]any{"offline": true, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}, nil)
	return b
}

// lastWords keeps the end of what is written.
type lastWords struct {
	mu   sync.Mutex
	text []byte
}

func (l *lastWords) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	l.text = l.text[max(0, len(l.text)-4000):]
	return len(p), nil
}

func (l *lastWords) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// listen hands answers to who waits for them, and keeps events.
func (b *browser) listen(out *os.File) {
	defer close(b.gone)
	r := bufio.NewReader(out)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m struct {
			ID int
			answer
			event
		}
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		if m.ID != 0 {
			if c := b.waiting[m.ID]; c != nil {
				c <- m.answer
				delete(b.waiting, m.ID)
			}
		} else {
			b.seen = append(b.seen, m.event)
		}
		b.mu.Unlock()
	}
}

func (b *browser) try(limit time.Duration, method string, params any) (json.RawMessage, error) {
	b.mu.Lock()
	b.last++
	id, c := b.last, make(chan answer, 1)
	b.waiting[id] = c
	request := map[string]any{"id": id, "method": method}
	if params != nil {
		request["params"] = params
	}
	if b.session != "" && !strings.HasPrefix(method, "Browser.") {
		request["sessionId"] = b.session
	}
	b.mu.Unlock()
	text, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if _, err := b.in.Write(append(text, 0)); err != nil {
		return nil, err
	}
	select {
	case a := <-c:
		if a.Error != nil {
			return nil, fmt.Errorf("%s: %s", method, a.Error.Message)
		}
		return a.Result, nil
	case <-b.gone:
		return nil, fmt.Errorf("%s: the browser has gone", method)
	case <-time.After(limit):
		return nil, fmt.Errorf("%s: no answer in %s", method, limit)
	}
}

// call asks the browser for something.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	raw, err := b.try(patience, method, params)
	if err == nil && result != nil {
		err = json.Unmarshal(raw, result)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// open shows a page, and returns its address.
func (b *browser) open(page []byte) string {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), "page.html")
	if err := os.WriteFile(path, page, 0o600); err != nil {
		b.t.Fatal(err)
	}
	address := (&url.URL{Scheme: "file", Path: path}).String()
	b.mu.Lock()
	b.seen = nil
	b.mu.Unlock()
	var gone struct{ ErrorText string }
	b.call("Page.navigate", map[string]any{"url": address}, &gone)
	if gone.ErrorText != "" {
		b.t.Fatalf("%s: %s", address, gone.ErrorText)
	}
	b.until("the page is loaded", `document.readyState === "complete" && location.protocol === "file:"`)
	return address
}

// run evaluates an expression in the page. The page's own policy doesn't bind it.
func (b *browser) run(expression string, result any) {
	b.t.Helper()
	if err := b.evaluate(expression, result); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) evaluate(expression string, result any) error {
	var out struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	raw, err := b.try(patience, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return err
	}
	if e := out.ExceptionDetails; e != nil {
		return fmt.Errorf("%s: %s %s", expression, e.Text, e.Exception.Description)
	}
	if result == nil {
		return nil
	}
	if len(out.Result.Value) == 0 {
		return errors.New(expression + ": no value")
	}
	return json.Unmarshal(out.Result.Value, result)
}

// until waits for a condition to hold.
func (b *browser) until(what, condition string) {
	b.t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var is bool
		if err = b.evaluate(condition, &is); err == nil && is {
			return
		}
	}
	b.t.Fatalf("waited in vain: %s (%s): %v", what, condition, err)
}

// press presses a key as a hand does, with what it types.
func (b *browser) press(key string) {
	b.t.Helper()
	codes := map[string]int{"Tab": 9, "Enter": 13, " ": 32, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38}
	down := map[string]any{"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
	switch key {
	case "Enter":
		down["text"] = "\r"
	case " ":
		down["text"], down["code"] = " ", "Space"
	default:
		if codes[key] == 0 {
			down["text"] = key
		} else {
			down["type"] = "rawKeyDown"
		}
	}
	b.call("Input.dispatchKeyEvent", down, nil)
	b.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "windowsVirtualKeyCode": codes[key]}, nil)
}

// tabTo presses Tab until what the selector names has the focus.
func (b *browser) tabTo(selector string) {
	b.t.Helper()
	for range 400 {
		b.press("Tab")
		var is bool
		b.run(fmt.Sprintf(`document.activeElement !== null && document.activeElement.matches(%q)`, selector), &is)
		if is {
			return
		}
	}
	b.t.Fatalf("Tab does not lead to %s", selector)
}

func (b *browser) tapType(text string) {
	b.t.Helper()
	for _, r := range text {
		b.press(string(r))
	}
}

// events are those whose method is one of these.
func (b *browser) events(methods ...string) []event {
	b.mu.Lock()
	defer b.mu.Unlock()
	var some []event
	for _, e := range b.seen {
		for _, m := range methods {
			if e.Method == m {
				some = append(some, e)
			}
		}
	}
	return some
}

// quiet fails the test where the page complained, threw, or asked for anything but
// itself.
func (b *browser) quiet(address string) {
	b.t.Helper()
	// A last round trip: what the page said before has arrived then.
	b.run("1", nil)
	for _, e := range b.events("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Page.javascriptDialogOpening") {
		b.t.Errorf("%s: %s", e.Method, e.Params)
	}
	for _, e := range b.events("Audits.issueAdded") {
		if bytes.Contains(e.Params, []byte("ContentSecurityPolicy")) {
			b.t.Errorf("refused by the page's policy: %s", e.Params)
		}
	}
	for _, e := range b.events("Network.requestWillBeSent") {
		var p struct {
			DocumentURL string
			Request     struct{ URL string }
		}
		if err := json.Unmarshal(e.Params, &p); err != nil {
			b.t.Error(err)
		}
		if bare, _, _ := strings.Cut(p.Request.URL, "#"); bare != address && bare != "data:," {
			b.t.Errorf("the page asked for %s", p.Request.URL)
		}
	}
}

// media has the page see another world: dark, paper.
func (b *browser) media(kind, scheme string) {
	b.t.Helper()
	b.call("Emulation.setEmulatedMedia", map[string]any{"media": kind, "features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

func (b *browser) size(width, height int) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
}

// scripts allows or forbids the page its script, from the next page on.
func (b *browser) scripts(on bool) {
	b.t.Helper()
	b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": !on}, nil)
}

// picture keeps what the page looks like in the folder that NICTUNE_PAGES names, for
// somebody to look at.
func (b *browser) picture(name string, whole bool) {
	b.t.Helper()
	folder := os.Getenv("NICTUNE_PAGES")
	if folder == "" {
		return
	}
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": whole}, &shot)
	b.keep(folder, name+".png", shot.Data)
}

func (b *browser) keep(folder, name, data string) {
	b.t.Helper()
	raw, err := base64.StdEncoding.DecodeString(data)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name), raw, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// paper prints the page and returns the PDF.
func (b *browser) paper(name string) []byte {
	b.t.Helper()
	var printed struct{ Data string }
	b.call("Page.printToPDF", map[string]any{"printBackground": true, "preferCSSPageSize": true, "paperWidth": 8.27, "paperHeight": 11.69}, &printed)
	if folder := os.Getenv("NICTUNE_PAGES"); folder != "" {
		b.keep(folder, name+".pdf", printed.Data)
	}
	raw, err := base64.StdEncoding.DecodeString(printed.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	return raw
}
