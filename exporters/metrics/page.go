package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A page serves every scrape that comes while it is being made or sent, and wants
// the same; once there are two of them, all that come while it is fresh. Those that
// come later than that after it was begun get a new one, unless so many pages are being sent to slow readers that memory would grow:
// then stale is the limit.
const (
	fresh = time.Second
	stale = 10 * time.Second
	many  = 8
)

// request is what a scrape wants.
type request struct {
	kind kind
	// asked are the collectors in their order, each with a comma after it; names
	// are metrics' names in the same form, or "" for all.
	asked, names string
	// contentType is the format in full.
	contentType string
}

// page is one rendering, shared by readers.
type page struct {
	request request
	ready   chan struct{}
	began   time.Time
	readers int
	shared  bool // more than one came for it: it stays for as long as it is fresh

	// What it is once ready.
	assembled  assembled
	collection *collection
	err        error
}

// pages are those that are being made or sent.
type pages struct {
	mu     sync.Mutex
	newest map[request]*page
	alive  int
}

// join gives the page for a request, and whether it is the caller's to make. The
// caller lets go of it by leave.
func (s *pages) join(r request, now time.Time) (p *page, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.newest[r]; p != nil && (!p.isReady() || p.err == nil && now.Sub(p.began) < s.patience()) {
		p.readers++
		if !p.shared {
			// Others may come just after these have gone.
			p.shared = true
			p.readers++
			time.AfterFunc(fresh-now.Sub(p.began), func() { s.leave(p) })
		}
		return p, false
	}
	p = &page{request: r, ready: make(chan struct{}), began: now, readers: 1}
	if s.newest == nil {
		s.newest = map[request]*page{}
	}
	s.newest[r] = p
	s.alive++
	return p, true
}

// patience is how old a page may be that is being sent to somebody already.
func (s *pages) patience() time.Duration {
	if s.alive >= many {
		return stale
	}
	return fresh
}

// leave gives a page back. The last to leave it ends it.
func (s *pages) leave(p *page) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.readers--
	if p.readers > 0 {
		return
	}
	s.alive--
	if s.newest[p.request] == p {
		delete(s.newest, p.request)
	}
	if p.collection != nil {
		p.collection.pages--
	}
}

func (p *page) isReady() bool {
	select {
	case <-p.ready:
		return true
	default:
		return false
	}
}

// errBroken is what those get who waited for a page whose making broke off.
var errBroken = errors.New("making the page broke off")

// wait waits until the page is made.
func (p *page) wait(ctx context.Context) error {
	select {
	case <-p.ready:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// collection is one asking of the source.
type collection struct {
	asked        Asked
	began, ended time.Time // the end is that of its first page's rendering
	pages        int       // how many of it are being sent, under the pages' mutex
}

// covers says whether a collection has all that is asked for.
func (c *collection) covers(asked Asked) bool {
	for name := range asked {
		if !c.asked[name] {
			return false
		}
	}
	return true
}

// render makes a page, after a collection of its own or one that others share
// already, whatever form they want.
func (s *server) render(p *page, asked Asked, names []string, r *http.Request) {
	p.err = errBroken
	defer close(p.ready)
	e := s.exporter
	e.mu.Lock()
	defer e.mu.Unlock()
	p.collection = s.collect(asked, p.began)
	own := recorder{header: http.Header{}, code: http.StatusOK}
	s.own.ServeHTTP(&own, r)
	if own.code != http.StatusOK {
		p.err = fmt.Errorf("metrics of the program itself: %s", own.body.Bytes())
		return
	}

	pieces := e.pieces[:0]
	defer func() { clear(pieces); e.pieces = pieces[:0] }()
	var err error
	for _, f := range e.families {
		if len(f.values) == 0 || !asked[f.Collector] || len(names) > 0 && !slices.Contains(names, f.Name) {
			continue
		}
		if pieces, err = f.appendPieces(pieces, p.request.kind, &e.encoder); err != nil {
			p.err = err
			return
		}
	}
	if e.encoder.plain = append(e.encoder.plain[:0], own.body.Bytes()...); len(e.encoder.plain) > 0 {
		last, err := e.encoder.form(p.request.kind.coding, 0, linesOf(len(e.encoder.plain)/lineLength))
		if err != nil {
			p.err = err
			return
		}
		last.fresh = true
		pieces = append(pieces, last)
	}
	bundles := &e.bundles[p.request.kind.number()]
	packed, made, err := e.encoder.pack(pieces, p.request.kind.coding, *bundles)
	if err != nil {
		p.err = err
		return
	}
	*bundles = made
	p.assembled, p.err = assemble(packed, p.request.kind.coding), nil
	e.drop(p.request.kind)
	if p.collection.ended.IsZero() {
		p.collection.ended = time.Now()
	}
}

// collect is a collection that has what is asked for and is as new as the page
// that it is for may be. It is called with the exporter's mutex held.
func (s *server) collect(asked Asked, arrived time.Time) *collection {
	if c := s.last; c != nil && c.covers(asked) {
		s.pages.mu.Lock()
		// Either this scrape came before it was over, and waited, or others are being
		// served from it just now.
		shared := arrived.Before(c.ended) || c.pages > 0 && arrived.Sub(c.began) < s.pages.patience()
		if shared {
			c.pages++
		}
		s.pages.mu.Unlock()
		if shared {
			return c
		}
	}
	c := &collection{asked: asked, began: time.Now(), pages: 1}
	s.exporter.collect(asked)
	s.last = c
	return c
}

// drop lets go of what is kept in forms that nobody has asked for since long.
func (e *Exporter) drop(used kind) {
	const long = 100 // pages
	e.made++
	e.used[used.number()] = e.made
	for f := range formats {
		for c := range codings {
			k := kind{f, c}
			at := &e.used[k.number()]
			if *at == 0 || e.made-*at < long {
				continue
			}
			*at = 0
			e.bundles[k.number()] = nil
			for _, family := range e.families {
				family.forget(k)
			}
		}
	}
}
