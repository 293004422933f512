package policies

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNone is returned by Load when the paths exist and no policy is in them.
var ErrNone = errors.New("no policies")

// Load reads the policies of files and directories. Of a directory it takes the
// files *.yaml and *.yml that are not hidden, in the order of their names, and
// does not descend. The order means nothing beyond the order of messages:
// priorities decide.
//
// All that is wrong in all files is reported together, and then no policies are
// returned.
func Load(paths ...string) ([]Policy, error) {
	if len(paths) == 0 { // a shell variable that is not set
		return nil, fmt.Errorf("%w: no file or directory is named", ErrNone)
	}
	var policies []Policy
	var errs []error
	for _, p := range paths {
		files, err := filesOf(p)
		errs = append(errs, err)
		for _, file := range files {
			parsed, err := parseFile(file)
			policies, errs = append(policies, parsed...), append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var names faults
	if uniqueNames(&names, policies); len(names) > 0 {
		return nil, names.err()
	}
	if len(policies) == 0 {
		return nil, fmt.Errorf("%w in %s (of a directory, *.yaml and *.yml are read)", ErrNone, strings.Join(paths, ", "))
	}
	return policies, nil
}

// filesOf is the path itself, or the documents in a directory.
func filesOf(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") || !slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(name)) {
			continue
		}
		file := filepath.Join(path, name)
		// A mounted ConfigMap is symbolic links, so what counts is where they lead.
		// A pipe in a directory would never end.
		if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
			if err == nil {
				err = fmt.Errorf("%s is not a regular file: move it out of the directory", file)
			}
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// parseFile reads no more than Parse accepts, also of a device that never ends.
func parseFile(file string) ([]Policy, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	return Parse(file, data)
}
