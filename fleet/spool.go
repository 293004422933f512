package fleet

import (
	"bufio"
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-json-experiment/json"
)

// spool holds hosts until it is known which of them count, compressed: the first few
// megabytes in memory, all beyond in a file that has no name. It is written first, then
// read once.
type spool struct {
	dir    string // where the file is made
	limit  int    // so much is held in memory
	memory bytes.Buffer
	file   *os.File
	packed *flate.Writer
}

// spoolLimit holds some ten thousand hosts.
const spoolLimit = 4 << 20

func newSpool(dir string) *spool { return &spool{dir: dir, limit: spoolLimit} }

// add takes a host's JSON without a newline in it.
func (s *spool) add(host []byte) error {
	if s.packed == nil {
		var err error
		if s.packed, err = flate.NewWriter(s, flate.BestSpeed); err != nil {
			return err
		}
	}
	if _, err := s.packed.Write(host); err != nil {
		return err
	}
	_, err := s.packed.Write([]byte{'\n'})
	return err
}

// Write takes what is compressed.
func (s *spool) Write(p []byte) (int, error) {
	if s.file == nil && s.memory.Len()+len(p) <= s.limit {
		return s.memory.Write(p)
	}
	if s.file == nil {
		file, err := os.CreateTemp(s.dir, "nictune-fleet-*")
		if err != nil {
			return 0, fmt.Errorf("a file for what does not fit in memory: %w", err)
		}
		// Without a name nothing is left behind, however this ends.
		if err := os.Remove(file.Name()); err != nil {
			return 0, errors.Join(err, file.Close())
		}
		s.file = file
	}
	return s.file.Write(p)
}

// each calls f with every host, and the JSON that was added, in that order.
func (s *spool) each(f func(h *Host, packed []byte) error) error {
	if s.packed == nil {
		return nil
	}
	if err := s.packed.Close(); err != nil {
		return err
	}
	s.packed = nil
	source := io.Reader(bytes.NewReader(s.memory.Bytes()))
	if s.file != nil {
		if _, err := s.file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		source = io.MultiReader(source, bufio.NewReaderSize(s.file, 64<<10))
	}
	lines := bufio.NewReaderSize(flate.NewReader(source), 64<<10)
	var packed []byte
	for {
		packed = packed[:0]
		part, err := lines.ReadSlice('\n')
		for ; errors.Is(err, bufio.ErrBufferFull); part, err = lines.ReadSlice('\n') {
			packed = append(packed, part...)
		}
		if packed = append(packed, part...); errors.Is(err, io.EOF) && len(packed) == 0 {
			return nil
		}
		var h Host
		if err == nil {
			packed = packed[:len(packed)-1]
			err = json.Unmarshal(packed, &h)
		}
		if err != nil {
			return fmt.Errorf("what was set aside of the hosts: %w", err)
		}
		if err := f(&h, packed); err != nil {
			return err
		}
	}
}

func (s *spool) close() error {
	s.memory = bytes.Buffer{}
	if s.file == nil {
		return nil
	}
	file := s.file
	s.file = nil
	return file.Close()
}
