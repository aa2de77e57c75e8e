package smallfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadReturnsTheWholeFile(t *testing.T) {
	for _, bytes := range []int{0, 1, 511, 512, 513, 100_000} {
		text := strings.Repeat("x", bytes)
		if got, err := Read(file(t, text)); err != nil || string(got) != text {
			t.Errorf("of %d bytes: got %d, %v", bytes, len(got), err)
		}
	}
	path := file(t, "")
	if err := os.Truncate(path, MaxBytes+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil {
		t.Error("one that is too large was read")
	}
}

func TestWritesGoToTheStartOfTheFile(t *testing.T) {
	for _, c := range []struct{ old, text, set, replaced string }{
		{"abc", "xyz", "xyz", "xyz"},
		{"abc", "xyz-1", "xyz-1", "xyz-1"},
		{"abcdef", "xyz", "xyzdef", "xyz"},
	} {
		for _, w := range []struct {
			name, want string
			write      func(path string) error
		}{
			{"Set", c.set, func(path string) error { return Set(path, c.text) }},
			{"Put", c.set, func(path string) error { return Put(path, c.text, 0o644) }},
			{"Replace", c.replaced, func(path string) error { return Replace(path, c.text, len(c.old)) }},
		} {
			path := file(t, c.old)
			if err := w.write(path); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != w.want {
				t.Errorf("%s of %q over %q: got %q, %v", w.name, c.text, c.old, got, err)
			}
		}
	}
}

func TestOnlyPutMakesAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new")
	var failure *fs.PathError
	if err := Set(path, "x"); !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &failure) || failure.Path != path {
		t.Errorf("got %v", err)
	}
	if err := Put(path, "x", 0o640); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("got %v, %v", info, err)
	}
}
