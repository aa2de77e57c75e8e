package files

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/fault"
)

var past = time.Unix(1_000_000_000, 123_456_789)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// makeTree makes a tree with every kind of file that an archive can carry.
func makeTree(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "tree")
	long := filepath.Join(dir, strings.Repeat("long-name-", 20), strings.Repeat("ü", 100))
	must(t,
		os.MkdirAll(filepath.Join(dir, "ro"), 0o755),
		os.MkdirAll(filepath.Dir(long), 0o755),
		os.WriteFile(long, []byte("long"), 0o644),
		os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "ro", "файл\n"), bytes.Repeat([]byte("x\x00\xff"), 500_000), 0o640),
		os.WriteFile(filepath.Join(dir, "tool"), []byte("#!/bin/sh\n"), 0o755),
		os.Chmod(filepath.Join(dir, "tool"), 0o755|os.ModeSetuid),
		os.Link(filepath.Join(dir, "tool"), filepath.Join(dir, "tool-again")),
		os.Symlink("../outside", filepath.Join(dir, "dangling")),
		os.Symlink("/etc/passwd", filepath.Join(dir, "absolute")),
		os.Chtimes(filepath.Join(dir, "ro", "файл\n"), past, past),
		os.Chmod(filepath.Join(dir, "ro"), 0o555),
		os.Chtimes(filepath.Join(dir, "ro"), past, past),
	)
	return dir
}

type facts struct {
	mode, uid, gid uint32
	size           int64
	mtime          int64
	link, content  string
}

func readTree(t *testing.T, root string) map[string]facts {
	tree := map[string]facts{}
	must(t, filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		var s unix.Stat_t
		if err := errors.Join(err, unix.Lstat(path, &s)); err != nil {
			return err
		}
		f := facts{mode: s.Mode, uid: s.Uid, gid: s.Gid, mtime: s.Mtim.Nano()}
		if entry.Type() == os.ModeSymlink {
			f.link, err = os.Readlink(path)
		} else if entry.Type().IsRegular() {
			var content []byte
			content, err = os.ReadFile(path)
			f.content, f.size = string(content), s.Size
		}
		relative, _ := filepath.Rel(root, path)
		tree[relative] = f
		return err
	}))
	return tree
}

func TestATreeSurvivesPackingAndUnpacking(t *testing.T) {
	source, target := makeTree(t), t.TempDir()
	var archive bytes.Buffer
	must(t, WriteTarTo(context.Background(), &archive, source))
	done, err := Unpack(context.Background(), &archive, target, false)
	must(t, err)
	want, got := readTree(t, source), readTree(t, filepath.Join(target, "tree"))
	if int(done.Entries) != len(want) || len(got) != len(want) {
		t.Fatalf("%d entries said, %d found, %d wanted", done.Entries, len(got), len(want))
	}
	for path, facts := range want {
		if got[path] != facts {
			t.Errorf("%q differs: %o %d against %o %d", path, got[path].mode, got[path].mtime, facts.mode, facts.mtime)
		}
	}
	a, errA := os.Stat(filepath.Join(target, "tree", "tool"))
	b, errB := os.Stat(filepath.Join(target, "tree", "tool-again"))
	must(t, errA, errB)
	if !os.SameFile(a, b) {
		t.Error("a hard link became a copy")
	}
}

func TestAPathThatEndsInADotGivesTheContent(t *testing.T) {
	source, target := makeTree(t), t.TempDir()
	var archive bytes.Buffer
	must(t, WriteTarTo(context.Background(), &archive, source+"/."))
	_, err := Unpack(context.Background(), &archive, target, false)
	must(t, err)
	if _, err := os.Stat(filepath.Join(target, "empty")); err != nil {
		t.Error(err)
	}
}

func TestAMissingFileIsNotFound(t *testing.T) {
	err := WriteTarTo(context.Background(), io.Discard, filepath.Join(t.TempDir(), "none"))
	if fault.CodeOf(err) != fault.FileNotFound {
		t.Error(err)
	}
}

func archiveOf(t *testing.T, headers ...tar.Header) io.Reader {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, h := range headers {
		content := "content"
		if h.Typeflag != tar.TypeReg {
			content = ""
		}
		h.Size, h.Mode, h.Format = int64(len(content)), 0o644, tar.FormatPAX
		must(t, w.WriteHeader(&h))
		_, err := io.WriteString(w, content)
		must(t, err)
	}
	must(t, w.Close())
	return &archive
}

func TestEntriesThatLeaveTheDestinationAreRefused(t *testing.T) {
	last := tar.Header{Typeflag: tar.TypeReg, Name: "after"}
	for name, headers := range map[string][]tar.Header{
		"parent":       {{Typeflag: tar.TypeReg, Name: "../out"}},
		"inner parent": {{Typeflag: tar.TypeReg, Name: "a/../../out"}},
		"absolute":     {{Typeflag: tar.TypeReg, Name: "/out"}},
		"directory":    {{Typeflag: tar.TypeDir, Name: "../out/"}},
		"hard link":    {{Typeflag: tar.TypeLink, Name: "in", Linkname: "../secret"}},
		"symlink":      {{Typeflag: tar.TypeSymlink, Name: "s", Linkname: ".."}, {Typeflag: tar.TypeReg, Name: "s/out"}},
		"absolute symlink": {
			{Typeflag: tar.TypeSymlink, Name: "s", Linkname: "/tmp"}, {Typeflag: tar.TypeReg, Name: "s/hearth-out"},
		},
		"directory by symlink": {
			{Typeflag: tar.TypeSymlink, Name: "s", Linkname: ".."}, {Typeflag: tar.TypeDir, Name: "s/out/"},
		},
		"hard link by symlink": {
			{Typeflag: tar.TypeSymlink, Name: "s", Linkname: ".."}, {Typeflag: tar.TypeLink, Name: "in", Linkname: "s/secret"},
		},
		"device": {{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			outside := t.TempDir()
			target := filepath.Join(outside, "target")
			must(t, os.Mkdir(target, 0o755), os.WriteFile(filepath.Join(outside, "secret"), nil, 0o600))
			_, err := Unpack(context.Background(), archiveOf(t, append(headers, last)...), target, false)
			if fault.CodeOf(err) != fault.FileRefused {
				t.Errorf("got %v", err)
			}
			left, err := os.ReadDir(outside)
			must(t, err)
			if len(left) != 2 {
				t.Errorf("outside is %v now", left)
			}
			if _, err := os.Stat(filepath.Join(target, "after")); err == nil {
				t.Error("entries after the refused one were unpacked")
			}
		})
	}
}

func TestAnExistingSymlinkIsReplacedAndNotWrittenThrough(t *testing.T) {
	outside := t.TempDir()
	target := filepath.Join(outside, "target")
	must(t, os.Mkdir(target, 0o755), os.WriteFile(filepath.Join(outside, "victim"), []byte("safe"), 0o600),
		os.Symlink("../victim", filepath.Join(target, "file")))
	_, err := Unpack(context.Background(), archiveOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "file"}), target, false)
	must(t, err)
	victim, _ := os.ReadFile(filepath.Join(outside, "victim"))
	fresh, _ := os.ReadFile(filepath.Join(target, "file"))
	if string(victim) != "safe" || string(fresh) != "content" {
		t.Errorf("victim %q, file %q", victim, fresh)
	}
}

func TestTheDestinationIsMadeOnlyOnRequest(t *testing.T) {
	target := filepath.Join(t.TempDir(), "a", "b")
	file := tar.Header{Typeflag: tar.TypeReg, Name: "file"}
	if _, err := Unpack(context.Background(), archiveOf(t, file), target, false); fault.CodeOf(err) != fault.FileNotFound {
		t.Error(err)
	}
	if _, err := Unpack(context.Background(), archiveOf(t, file), target, true); err != nil {
		t.Error(err)
	}
}

func TestABrokenArchiveIsAnError(t *testing.T) {
	whole, err := io.ReadAll(archiveOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "file"}))
	must(t, err)
	for _, broken := range [][]byte{bytes.Repeat([]byte("garbage!"), 64), whole[:1027]} {
		if _, err := Unpack(context.Background(), bytes.NewReader(broken), t.TempDir(), false); fault.CodeOf(err) != fault.InputInvalid {
			t.Errorf("got %v", err)
		}
	}
}
