package files

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/fault"
)

func regular(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }

func unpackInto(t *testing.T, dir string, headers ...tar.Header) error {
	t.Helper()
	_, err := Unpack(context.Background(), archiveOf(t, headers...), dir, false)
	return err
}

func TestAFileNeverReplacesWhatIsNotAFile(t *testing.T) {
	for what, make := range map[string]func(path string) error{
		"a directory": func(path string) error { return os.Mkdir(path, 0o755) },
		"a link to a directory": func(path string) error {
			return errors.Join(os.Mkdir(path+"-behind", 0o755), os.Symlink(filepath.Base(path)+"-behind", path))
		},
		"an absolute link to a directory": func(path string) error {
			return errors.Join(os.Mkdir(path+"-behind", 0o755), os.Symlink(path+"-behind", path))
		},
		"a link to a directory elsewhere": func(path string) error { return os.Symlink("/etc", path) },
		"a FIFO":                          func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a device":                        func(path string) error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) },
		"a socket": func(path string) error {
			listener, err := net.Listen("unix", path)
			if err == nil {
				t.Cleanup(func() { listener.Close() })
			}
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "bin")
			if err := make(path); errors.Is(err, unix.EPERM) {
				t.Skip("making a device needs root")
			} else {
				must(t, err)
			}
			before, err := os.Lstat(path)
			must(t, err)
			if err := unpackInto(t, dir, regular("bin")); fault.CodeOf(err) != fault.FileRefused {
				t.Errorf("got %v", err)
			}
			after, err := os.Lstat(path)
			must(t, err)
			if !os.SameFile(before, after) {
				t.Errorf("it is %v now", after.Mode())
			}
		})
	}
}

func TestALinkReplacesALinkToADirectory(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "usr", "bin"), 0o755), os.Symlink("/usr/bin", filepath.Join(dir, "bin")))
	must(t, unpackInto(t, dir, tar.Header{Typeflag: tar.TypeSymlink, Name: "bin", Linkname: "usr/bin"}))
	if target, _ := os.Readlink(filepath.Join(dir, "bin")); target != "usr/bin" {
		t.Errorf("it leads to %q", target)
	}
}

func TestAFileThatIsCutOffLeavesTheOldOneAndNoTemporaryFile(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("old"), 0o600))
	whole, err := io.ReadAll(archiveOf(t, regular("file")))
	must(t, err)
	at := bytes.Index(whole, []byte("content"))
	if _, err := Unpack(context.Background(), bytes.NewReader(whole[:at+3]), dir, false); err == nil {
		t.Fatal("half a file is no file")
	}
	content, err := os.ReadFile(filepath.Join(dir, "file"))
	must(t, err)
	left, err := os.ReadDir(dir)
	must(t, err)
	if string(content) != "old" || len(left) != 1 {
		t.Errorf("the file holds %q, beside it lies %v", content, left)
	}
}

func TestAbsoluteLinksThatStayBelowTheDestinationAreFollowed(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "run", "lock"), 0o755), os.MkdirAll(filepath.Join(dir, "var"), 0o755),
		os.Symlink(filepath.Join(dir, "run"), filepath.Join(dir, "var", "run")),
		os.Symlink("../run/lock", filepath.Join(dir, "var", "lock")))
	must(t, unpackInto(t, dir,
		tar.Header{Typeflag: tar.TypeDir, Name: "var/run/"}, regular("var/run/xx"), regular("var/run/new/yy"),
		tar.Header{Typeflag: tar.TypeLink, Name: "var/zz", Linkname: "var/run/xx"}, regular("var/lock/l")))
	for _, name := range []string{"run/xx", "run/new/yy", "var/zz", "run/lock/l"} {
		if content, err := os.ReadFile(filepath.Join(dir, name)); string(content) != "content" {
			t.Error(name, err)
		}
	}
	if info, _ := os.Lstat(filepath.Join(dir, "var", "run")); info.Mode().Type() != os.ModeSymlink {
		t.Error("the link was replaced")
	}
}

func TestCircularLinksAreRefused(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink("b", filepath.Join(dir, "a")), os.Symlink(filepath.Join(dir, "a"), filepath.Join(dir, "b")))
	if err := unpackInto(t, dir, regular("a/file")); fault.CodeOf(err) != fault.FileRefused {
		t.Error(err)
	}
	for _, path := range []string{"a/", "a/.", "a/file"} {
		if err := WriteTarTo(context.Background(), io.Discard, dir+"/"+path); fault.CodeOf(err) != fault.FileRefused {
			t.Error(path, err)
		}
	}
}

func TestASlashAtTheEndFollowsALinkToADirectory(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "usr", "bin"), 0o755), os.Symlink("usr/bin", filepath.Join(dir, "bin")),
		os.WriteFile(filepath.Join(dir, "usr", "bin", "sh"), nil, 0o755), os.Symlink("usr/bin/sh", filepath.Join(dir, "sh")))
	for path, want := range map[string]string{
		"bin": "bin", "bin/": "bin/ bin/sh", "bin/.": "./ sh", "bin/..": "usr/ usr/bin/ usr/bin/sh", "sh": "sh",
		"bin/sh": "sh",
	} {
		var names []string
		for _, header := range packed(t, dir+"/"+path) {
			names = append(names, header.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s gives %q, not %q", path, got, want)
		}
	}
	for _, path := range []string{"sh/", "sh/.", "bin/sh/."} {
		if err := WriteTarTo(context.Background(), io.Discard, dir+"/"+path); fault.CodeOf(err) != fault.FileNotFound {
			t.Error(path, err)
		}
	}
}

func packed(t *testing.T, path string) []tar.Header {
	var archive bytes.Buffer
	must(t, WriteTarTo(context.Background(), &archive, path))
	var headers []tar.Header
	for reader := tar.NewReader(&archive); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return headers
		}
		must(t, err)
		headers = append(headers, *header)
	}
}

func TestFilesInProcAndSysAreArchivedWithTheirContent(t *testing.T) {
	for _, path := range []string{"/proc/self/status", "/proc/kallsyms", "/sys/kernel/mm/transparent_hugepage/enabled"} {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Logf("%s does not exist here", path)
			continue
		}
		var archive bytes.Buffer
		must(t, WriteTarTo(context.Background(), &archive, path))
		reader := tar.NewReader(&archive)
		_, err = reader.Next()
		must(t, err)
		content, err := io.ReadAll(reader)
		must(t, err)
		// The content changes with each read, such as counters do; its length hardly does.
		if len(content) == 0 || len(content) < len(want)*9/10 || bytes.IndexByte(content, 0) >= 0 {
			t.Errorf("%s has %d bytes, not %d", path, len(content), len(want))
		}
	}
}

func TestUnreadableFilesAreNamedAndTheRestIsArchived(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, "a-socket"))
	must(t, err)
	defer listener.Close()
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("f"), 0o600))
	headers := packed(t, dir+"/.")
	if len(headers) != 3 || headers[1].Typeflag != tar.TypeXGlobalHeader || headers[2].Name != "file" {
		t.Fatalf("got %+v", headers)
	}
	if record := headers[1].PAXRecords[SkippedRecord]; !strings.HasPrefix(record, "a-socket: ") {
		t.Errorf("the record is %q", record)
	}
	if err := WriteTarTo(context.Background(), io.Discard, filepath.Join(dir, "a-socket")); fault.CodeOf(err) != fault.FileRefused {
		t.Error(err)
	}
}

func TestNamesThatAreNotUTF8SurviveInBothDirections(t *testing.T) {
	source, target := t.TempDir(), t.TempDir()
	names := []string{"a\xe8", "a\xe9", strings.Repeat("\xff", 200)}
	for _, name := range names {
		must(t, os.WriteFile(filepath.Join(source, name), []byte(name), 0o600),
			os.Symlink(name, filepath.Join(source, "l"+name)))
	}
	var archive bytes.Buffer
	must(t, WriteTarTo(context.Background(), &archive, source+"/."))
	_, err := Unpack(context.Background(), &archive, target, false)
	must(t, err)
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(target, "l"+name))
		if string(content) != name {
			t.Errorf("%q: %v", name, err)
		}
	}
}
