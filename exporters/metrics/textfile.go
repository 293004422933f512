package metrics

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// WriteText writes one collection as text, and before it what gatherer has of the
// program. The reads tell how the collection went.
func (e *Exporter) WriteText(w io.Writer, gatherer prometheus.Gatherer) error {
	own, err := gatherer.Gather()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	for _, f := range own {
		if _, err := expfmt.MetricFamilyToText(out, f); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.collect(nil)
	for _, f := range e.families {
		for from := 0; from < len(f.values); from += blockSize {
			b := e.encoder.plain[:0]
			if from == 0 {
				b = f.appendHead(b, text)
			}
			b = f.appendSamples(b, from, min(from+blockSize, len(f.values)))
			e.encoder.plain = b
			if _, err := out.Write(b); err != nil {
				return err
			}
		}
	}
	return out.Flush()
}

// WriteFile replaces a file by what write writes, for everybody to read. Whoever
// reads it meanwhile finds the old or the new one whole, also after a power cut, and
// when something fails the old one stays.
func WriteFile(path string, write func(io.Writer) error) (err error) {
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		// A link would be replaced, and what it points to stay as it was for ever.
		return fmt.Errorf("%s is no regular file but %s", path, info.Mode().Type())
	}
	dir := filepath.Dir(path)
	// node_exporter reads *.prom: not this one.
	next, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = next.Close()
			_ = os.Remove(next.Name())
		}
	}()
	if err = write(next); err != nil {
		return err
	}
	if err = next.Chmod(0o644); err != nil {
		return err
	}
	if err = next.Sync(); err != nil {
		return err
	}
	if err = next.Close(); err != nil {
		return err
	}
	if err = os.Rename(next.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a folder's entries last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
