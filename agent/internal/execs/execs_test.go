package execs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/accounts"
	"hearth.dev/agent/internal/fault"
	"hearth.dev/agent/internal/reaper"
)

// One reaper for all tests, because it collects the children of the whole process.
var shared = sync.OnceValue(func() *Runner {
	return NewRunner(reaper.New(context.Background(), false), accounts.System)
})

type result struct {
	Exit
	stdout, stderr string
}

func start1(t *testing.T, spec Spec) *Command {
	t.Helper()
	c, err := shared().Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Kill(); c.Close() })
	return c
}

func finish(t *testing.T, c *Command) result {
	t.Helper()
	var out [3]bytes.Buffer
	if err := c.CopyOutput(func(from int, chunk []byte) error { out[from].Write(chunk); return nil }); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	return result{c.Exit(), out[Stdout].String(), out[Stderr].String()}
}

func runSpec(t *testing.T, spec Spec) result {
	t.Helper()
	return finish(t, start1(t, spec))
}

func sh(script string) Spec { return Spec{Argv: []string{"/bin/sh", "-c", script}} }

func TestExitCodesArriveAsTheyAre(t *testing.T) {
	for _, code := range []uint32{0, 1, 42, 255} {
		if got := runSpec(t, sh(fmt.Sprintf("exit %d", code))); got.Exit != (Exit{Code: code}) {
			t.Errorf("exit %d: got %+v", code, got.Exit)
		}
	}
}

func TestADeathBySignalIs128AndItsNumber(t *testing.T) {
	for _, signal := range []uint32{2, 9, 15} {
		want := Exit{Code: 128 + signal, Signal: signal}
		if got := runSpec(t, sh(fmt.Sprintf("kill -%d $$", signal))); got.Exit != want {
			t.Errorf("signal %d: got %+v", signal, got.Exit)
		}
	}
}

func TestArgumentsArriveByteForByte(t *testing.T) {
	arguments := []string{"a b", "", `'"$HOME`, "new\nline", "*", "-n", "\xff\xfe", "ü", strings.Repeat("x", 100_000)}
	got := runSpec(t, Spec{Argv: append([]string{"/usr/bin/printf", `%s\0`}, arguments...)})
	if want := strings.Join(arguments, "\x00") + "\x00"; got.stdout != want {
		t.Errorf("got %d bytes, want %d", len(got.stdout), len(want))
	}
}

func TestTheEnvironmentIsMinimalPlusTheRequest(t *testing.T) {
	runner := NewRunner(shared().reaper, accounts.System)
	runner.Settings.Set(Defaults{Env: map[string]string{"A": "default", "B": "default"}, Workdir: "/usr"})
	spec := Spec{Argv: []string{"/usr/bin/env"}, Env: map[string]string{"B": "a\nb", "PATH": "/bin"}}
	c, err := runner.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	want := "A=default\nB=a\nb\nHOME=/root\nLOGNAME=root\nPATH=/bin\nSHELL=/bin/bash\nUSER=root\n"
	if got := finish(t, c); got.stdout != want {
		t.Errorf("got %q", got.stdout)
	}
	c, err = runner.Start(Spec{Argv: []string{"pwd"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := finish(t, c); got.stdout != "/usr\n" {
		t.Errorf("works in %q", got.stdout)
	}
}

func TestStdoutAndStderrStayApartAndNeedNoNewline(t *testing.T) {
	got := runSpec(t, sh("printf out; printf err >&2"))
	if got.stdout != "out" || got.stderr != "err" {
		t.Errorf("got %q and %q", got.stdout, got.stderr)
	}
}

func TestBinaryInputAndOutputPassWhole(t *testing.T) {
	c := start1(t, Spec{Argv: []string{"cat"}, Stdin: true})
	pattern := make([]byte, 1<<20)
	for i := range pattern {
		pattern[i] = byte(i * 7)
	}
	go func() {
		c.Input().Write(pattern)
		c.CloseInput()
	}()
	if got := finish(t, c); got.stdout != string(pattern) {
		t.Errorf("got %d bytes", len(got.stdout))
	}
}

func TestASlowReaderGetsWhatACommandWroteBeforeItEnded(t *testing.T) {
	c := start1(t, sh("head -c 60000 /dev/zero; sleep 100 & exit 3"))
	<-c.Done()
	total := 0
	err := c.CopyOutput(func(_ int, chunk []byte) error {
		time.Sleep(2 * drainIdle) // Longer than drainIdle.
		total += len(chunk)
		return nil
	})
	if err != nil || total != 60000 || c.Exit().Code != 3 {
		t.Errorf("got %d bytes, %v, %+v", total, err, c.Exit())
	}
}

func TestOutputThatAChildKeepsOpenDoesNotDelayTheExit(t *testing.T) {
	for _, script := range []string{"sleep 100 & echo $!", "yes >&2 & echo $!"} {
		got := runSpec(t, sh(script))
		pid, err := strconv.Atoi(strings.TrimSpace(got.stdout))
		if err != nil {
			t.Fatal(err)
		}
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

func TestKillReachesTheWholeGroupAndSession(t *testing.T) {
	for _, script := range []string{"sleep 100 & echo $!; wait", "set -m; sleep 100 & echo $!; wait"} {
		c := start1(t, sh(script))
		line := make([]byte, 16)
		n, err := c.streams.stdout.Read(line)
		if err != nil {
			t.Fatal(err)
		}
		pid := strings.TrimSpace(string(line[:n]))
		c.Kill()
		if got := finish(t, c); got.Signal != 9 {
			t.Errorf("got %+v", got.Exit)
		}
		awaitGone(t, pid)
	}
}

// awaitGone waits until a process is gone, or is a zombie of another parent.
func awaitGone(t *testing.T, pid string) {
	t.Helper()
	number, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	process, err := unix.PidfdOpen(number, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(process)
	ended := []unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}
	n, err := unix.Poll(ended, 10_000)
	for err == unix.EINTR {
		n, err = unix.Poll(ended, 10_000)
	}
	if n != 1 || err != nil {
		t.Errorf("the process %s lives on: %v", pid, err)
	}
}

func TestATimeoutTerminatesAndThenKills(t *testing.T) {
	if got := runSpec(t, Spec{Argv: []string{"sleep", "100"}, TimeoutMs: 50}); got.Exit != (Exit{143, 15, true}) {
		t.Errorf("got %+v", got.Exit)
	}
	stubborn := sh("trap '' TERM; sleep 100 & wait; wait")
	stubborn.TimeoutMs = 50
	if got := runSpec(t, stubborn); got.Exit != (Exit{137, 9, true}) {
		t.Errorf("got %+v", got.Exit)
	}
}

func TestADetachedCommandHasNoStreamsAndNeedsNoReader(t *testing.T) {
	done := filepath.Join(t.TempDir(), "done")
	spec := sh("cat; head -c 1000000 /dev/zero; echo yes > " + done)
	spec.Detach, spec.Stdin, spec.Tty = true, true, &Tty{}
	if got := runSpec(t, spec); got.Code != 0 || got.stdout != "" {
		t.Errorf("got %+v", got.Exit)
	}
	if text, err := os.ReadFile(done); err != nil || string(text) != "yes\n" {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestATerminalHasASizeAndTheSessionIsItsOwn(t *testing.T) {
	spec := sh("stty size; echo $TERM; test -t 0 && test -t 1 && test -t 2 && ps -o tty= -p $$ >/dev/null; stty size </dev/tty")
	spec.Tty = &Tty{Rows: 33, Cols: 77, Term: "vt100"}
	want := "33 77\r\nvt100\r\n33 77\r\n"
	if got := runSpec(t, spec); got.stdout != want || got.Code != 0 {
		t.Errorf("got %q, %+v", got.stdout, got.Exit)
	}
}

func TestATerminalIsResizedWhileItIsUsed(t *testing.T) {
	spec := sh("trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.02; done")
	spec.Tty = &Tty{Rows: 10, Cols: 20}
	c := start1(t, spec)
	var out bytes.Buffer
	err := c.CopyOutput(func(_ int, chunk []byte) error {
		out.Write(chunk)
		if out.String() == "ready\r\n" {
			return c.Resize(44, 55)
		}
		return nil
	})
	if err != nil || out.String() != "ready\r\n44 55\r\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

func TestTheEndOfInputReachesAProgramOnATerminal(t *testing.T) {
	c := start1(t, Spec{Argv: []string{"cat"}, Tty: &Tty{}})
	io.WriteString(c.Input(), "line\n")
	c.CloseInput()
	if got := finish(t, c); !strings.HasSuffix(got.stdout, "line\r\nline\r\n") || got.Code != 0 {
		t.Errorf("got %q, %+v", got.stdout, got.Exit)
	}
}

func TestACommandThatCannotRunHasAReason(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "plain"), nil, 0o644)
	os.WriteFile(filepath.Join(dir, "orphan"), []byte("#!/no/such/interpreter\n"), 0o755)
	for want, specs := range map[fault.Code][]Spec{
		fault.ExecNotFound: {
			{Argv: []string{"no-such-command"}}, {Argv: []string{"/no/such/file"}}, {Argv: []string{""}},
			{Argv: []string{dir + "/orphan"}}, {Argv: []string{"./gone"}, Workdir: dir},
		},
		fault.ExecNotExecutable: {{Argv: []string{dir + "/plain"}}, {Argv: []string{dir}}, {Argv: []string{"./plain"}, Workdir: dir}},
		fault.ExecBadUser:       {{Argv: []string{"true"}, User: "no-such-user"}},
		fault.FileNotFound:      {{Argv: []string{"true"}, Workdir: "/no/such/dir"}, {Argv: []string{"true"}, Workdir: dir + "/plain"}},
		fault.InputInvalid:      {{Argv: []string{"true", "a\x00b"}}, {Argv: []string{"true"}, Env: map[string]string{"": "x"}}},
	} {
		for _, spec := range specs {
			if _, err := shared().Start(spec); fault.CodeOf(err) != want {
				t.Errorf("%q in %q: got %v, want %s", spec.Argv, spec.Workdir, err, want)
			}
		}
	}
}

func TestAScriptWithoutAnInterpreterLineRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "script")
	os.WriteFile(path, []byte("echo $1\n"), 0o755)
	if got := runSpec(t, Spec{Argv: []string{path, "hi"}}); got.stdout != "hi\n" {
		t.Errorf("got %q, %+v", got.stdout, got.Exit)
	}
}

func TestAnotherUserRunsWithItsGroupsAndHome(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may become another user; CI is root")
	}
	got := runSpec(t, Spec{Argv: []string{"/bin/sh", "-c", "id -u; id -G; echo $HOME"}, User: "12345:54321", Workdir: "/"})
	if got.stdout != "12345\n54321\n/\n" {
		t.Errorf("got %q %q", got.stdout, got.stderr)
	}
}

func TestAnIDBelongsToOneRunningCommand(t *testing.T) {
	spec := Spec{ID: "one", Argv: []string{"sleep", "100"}}
	c := start1(t, spec)
	if found, ok := shared().Find("one"); !ok || found != c {
		t.Error("the command was not found")
	}
	if _, err := shared().Start(spec); fault.CodeOf(err) != fault.InputInvalid {
		t.Errorf("got %v", err)
	}
	c.Kill()
	<-c.Done()
}

func TestManyCommandsAtOnceEachKeepTheirStatus(t *testing.T) {
	var all sync.WaitGroup
	failures := make(chan error, 100)
	for i := range 100 {
		all.Add(1)
		go func() {
			defer all.Done()
			c, err := shared().Start(sh(fmt.Sprintf("echo %d; exit %d", i, i)))
			if err != nil {
				failures <- err
				return
			}
			defer c.Close()
			var out bytes.Buffer
			err = c.CopyOutput(func(_ int, chunk []byte) error { out.Write(chunk); return nil })
			<-c.Done()
			if c.Exit().Code != uint32(i) || out.String() != fmt.Sprintln(i) {
				failures <- errors.Join(err, fmt.Errorf("%d: %+v %q", i, c.Exit(), out.String()))
			}
		}()
	}
	all.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
}
