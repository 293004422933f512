package metrics

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// begin asks for a page as a client with these headers does.
func begin(s http.Handler, query, accept, encoding string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, "/metrics"+query, http.NoBody)
	r.Header.Set("Accept", accept)
	r.Header.Set("Accept-Encoding", encoding)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// waiting is how many wait for a page.
func (s *pages) waiting() (count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.newest {
		count += p.readers
		if p.shared {
			count--
		}
	}
	return count
}

// kept is how many pages there are.
func (s *pages) kept() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.alive + len(s.newest)
}

// A thousand scrapes that come at the same time cost one collection, and each form
// that they want one rendering.
func TestScrapesAtTheSameTimeShareOneCollection(t *testing.T) {
	const scrapes = 1000
	var collections atomic.Int64
	release := make(chan struct{})
	e, err := New(func(Asked) Snapshot {
		collections.Add(1)
		<-release
		return example()
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := e.server(prometheus.NewRegistry(), prometheus.NewRegistry(), func(err error) { t.Error(err) })
	forms := []struct{ accept, encoding string }{{asText, "gzip"}, {asText, "identity"}, {asOpenMetrics, "gzip"}, {asProtobuf, "zstd"}}
	var all sync.WaitGroup
	var served atomic.Int64
	for i := range scrapes {
		all.Go(func() {
			form := forms[i%len(forms)]
			if w := begin(s, "", form.accept, form.encoding); w.Code == http.StatusOK && w.Body.Len() > 0 {
				served.Add(1)
			}
		})
	}
	for start := time.Now(); s.pages.waiting() < scrapes; time.Sleep(time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("%d of %d have come after a minute", s.pages.waiting(), scrapes)
		}
	}
	close(release)
	all.Wait()
	if got := collections.Load(); got != 1 || served.Load() != scrapes || e.made != len(forms) {
		t.Errorf("%d collections, %d served, %d pages made; want 1, %d and %d", got, served.Load(), e.made, scrapes, len(forms))
	}
	for start := time.Now(); s.pages.kept() != 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("%d pages are kept after a minute", s.pages.kept())
		}
	}
	begin(s, "", asText, "gzip") // who comes later gets what is true then
	if got := collections.Load(); got != 2 {
		t.Errorf("%d collections after another scrape, want 2", got)
	}
}

// However slowly pages are read, there are few of them.
func TestSlowReadersShareOldPages(t *testing.T) {
	var s pages
	want := request{asked: "nic,"}
	now := time.Unix(1000, 0)
	come := func(after time.Duration) (*page, bool) {
		now = now.Add(after)
		p, mine := s.join(want, now)
		if mine {
			close(p.ready)
		}
		return p, mine
	}
	first, mine := come(0)
	if !mine {
		t.Fatal("nobody makes the first page")
	}
	if p, _ := come(fresh / 2); p != first {
		t.Error("a page half a second old is not shared")
	}
	if p, _ := come(fresh); p == first {
		t.Error("a page of more than a second ago is shared")
	}
	made := 2
	for range 1000 { // each a second after the one before, and none ends
		if _, mine := come(fresh); mine {
			made++
		}
	}
	if limit := many + 1000*int(fresh)/int(stale) + 1; made > limit {
		t.Errorf("%d pages in 1000 s, want at most %d", made, limit)
	}
	other := request{asked: "link,"}
	if _, mine := s.join(other, now); !mine {
		t.Error("a page of something else is shared")
	}
}

// A source that breaks off breaks nobody's scrape for good.
func TestBrokenPage(t *testing.T) {
	broken := true
	e := exporter(t, func() Snapshot {
		if broken {
			panic("broken")
		}
		return example()
	})
	s := e.server(prometheus.NewRegistry(), prometheus.NewRegistry(), func(error) {})
	func() {
		defer func() { _ = recover() }()
		begin(s, "", asText, "gzip")
	}()
	broken = false
	if w := begin(s, "", asText, "gzip"); w.Code != http.StatusOK {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}
