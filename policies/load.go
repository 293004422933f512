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

// Load reads the policies of files and directories, of kind [Kind]; see
// [LoadDocuments].
func Load(paths ...string) ([]Policy, error) {
	documents, err := LoadDocuments(paths...)
	if err == nil && len(documents.Policies) == 0 {
		return nil, fmt.Errorf("%w of kind %s in %s (those there are for nictune check and nictune audit)", ErrNone, Kind, strings.Join(paths, ", "))
	}
	return documents.Policies, err
}

// LoadDocuments reads the documents of files and directories. Of a directory it takes the
// files *.yaml and *.yml that are not hidden, in the order of their names, and
// does not descend. The order means nothing beyond the order of messages:
// priorities decide.
//
// All that is wrong in all files is reported together, and then no policies are
// returned.
func LoadDocuments(paths ...string) (Documents, error) {
	var all Documents
	if len(paths) == 0 { // a shell variable that is not set
		return all, fmt.Errorf("%w: no file or directory is named", ErrNone)
	}
	var errs []error
	for _, p := range paths {
		files, err := filesOf(p)
		errs = append(errs, err)
		for _, file := range files {
			parsed, err := parseFile(file)
			all.Policies, all.Checks, all.Rules = append(all.Policies, parsed.Policies...), append(all.Checks, parsed.Checks...), append(all.Rules, parsed.Rules...)
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Documents{}, err
	}
	var names faults
	if uniqueNames(&names, all); len(names) > 0 {
		return Documents{}, names.err()
	}
	if len(all.Policies)+len(all.Checks)+len(all.Rules) == 0 {
		return Documents{}, fmt.Errorf("%w in %s (of a directory, *.yaml and *.yml are read)", ErrNone, strings.Join(paths, ", "))
	}
	return all, nil
}

// filesOf is the path itself, or the documents in a directory.
func filesOf(path string) ([]string, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.IsDir():
		return []string{path}, nil
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
func parseFile(file string) (Documents, error) {
	f, err := os.Open(file)
	if err != nil {
		return Documents{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return Documents{}, err
	}
	return ParseDocuments(file, data)
}
