package identity

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fakeKernel records its calls and changes nothing.
type fakeKernel struct {
	calls  []string
	bootID string // The file that is shown.
	failed error
	fails  string // The one call that fails; if empty, all do.
}

const kernelsBootID = "11111111-2222-4333-8444-555555555555\n"

func (k *fakeKernel) SetHostname(name string) error { return k.call("hostname " + name) }
func (k *fakeKernel) SetClock(int64) error          { return k.call("clock") }
func (k *fakeKernel) AddEntropy([]byte) error       { return k.call("entropy") }
func (k *fakeKernel) SetUpNetwork(_ context.Context, n Network) error {
	return k.call("network " + n.Interface)
}
func (k *fakeKernel) BootID() (string, error) { return kernelsBootID, nil }
func (k *fakeKernel) ShowBootID(path string) error {
	k.bootID = path
	return k.call("boot id")
}
func (k *fakeKernel) Renew(comment string) error { return k.call("keys of " + comment) }
func (k *fakeKernel) Resume(string)              {}

func (k *fakeKernel) call(name string) error {
	k.calls = append(k.calls, name)
	if k.fails != "" && k.fails != name {
		return nil
	}
	return k.failed
}

func newGuest(t *testing.T, files map[string]string) (Guest, *fakeKernel) {
	kernel := &fakeKernel{}
	g := Guest{Root: t.TempDir(), Kernel: kernel, Keys: kernel}
	for name, text := range files {
		if err := errors.Join(os.MkdirAll(g.Root+"/etc", 0o755), os.WriteFile(g.etc(name), []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return g, kernel
}

func (g Guest) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(g.etc(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var full = Identity{
	Hostname: "web-1", UnixTimeNs: 1, Entropy: []byte("seed"), MachineID: strings.Repeat("ab", 16),
	Network: Network{Interface: "eth0", Nameservers: []string{"10.0.2.3", "fec0::3"}},
}

func TestAFullIdentityIsSetEntropyFirst(t *testing.T) {
	g, kernel := newGuest(t, nil)
	if out := g.Configure(context.Background(), full); len(out.Warnings)+len(out.NotRenewed) != 0 {
		t.Fatal(out)
	}
	if want := []string{"entropy", "clock", "boot id", "hostname web-1", "network eth0"}; !slices.Equal(kernel.calls, want) {
		t.Errorf("got %v", kernel.calls)
	}
	for name, want := range map[string]string{
		"hostname":    "web-1\n",
		"machine-id":  full.MachineID + "\n",
		"resolv.conf": "nameserver 10.0.2.3\nnameserver fec0::3\n",
		"hosts":       "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 web-1 # set by Hearth\n",
	} {
		if got := g.read(t, name); got != want {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestABootedGuestShowsTheKernelsBootIDAndARestoredOneANewOne(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may write a file that is read only; CI is root")
	}
	g, kernel := newGuest(t, nil)
	shown := func() string {
		text, err := os.ReadFile(kernel.bootID)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	g.Configure(context.Background(), full)
	if got := shown(); got != kernelsBootID {
		t.Errorf("booted: got %q", got)
	}
	restored := full
	restored.Restored = true
	g.Configure(context.Background(), restored)
	life := shown()
	g.Configure(context.Background(), full)
	if life == kernelsBootID || shown() != life {
		t.Errorf("restored: got %q, and after the agent's own restart %q", life, shown())
	}
}

func TestConfiguringAgainChangesNothing(t *testing.T) {
	g, _ := newGuest(t, nil)
	g.Configure(context.Background(), full)
	before := g.read(t, "hosts")
	g.Configure(context.Background(), full)
	if got := g.read(t, "hosts"); got != before {
		t.Errorf("got %q", got)
	}
	entries, err := os.ReadDir(filepath.Join(g.Root, "etc"))
	if err != nil || len(entries) != 4 {
		t.Errorf("got %v, %v", entries, err)
	}
}

func TestLinesOfTheUserInHostsStay(t *testing.T) {
	g, _ := newGuest(t, map[string]string{"hosts": "127.0.0.1 localhost\n10.1.1.1 db\n127.0.1.1 old # set by Hearth\n"})
	g.Configure(context.Background(), Identity{Hostname: "new"})
	if got := g.read(t, "hosts"); got != "127.0.0.1 localhost\n10.1.1.1 db\n127.0.1.1 new # set by Hearth\n" {
		t.Errorf("got %q", got)
	}
}

func TestAnImageWithoutAMachineIDGetsOneAndAnotherKeepsIts(t *testing.T) {
	own := strings.Repeat("c", 32) + "\n"
	for _, old := range []string{"", "uninitialized\n", own} {
		g, _ := newGuest(t, map[string]string{"machine-id": old})
		g.Configure(context.Background(), Identity{})
		got := g.read(t, "machine-id")
		if !regexp.MustCompile(`^[0-9a-f]{32}\n$`).MatchString(got) || (old == own && got != own) {
			t.Errorf("%q became %q", old, got)
		}
	}
}

func TestTheFirstBootOfAnImageIsLeftToItsInit(t *testing.T) {
	for _, c := range []struct{ old, given, want string }{
		{"uninitialized\n", full.MachineID, "uninitialized\n"},
		{"uninitialized\n", "another", full.MachineID + "\n"},
		{"", full.MachineID, full.MachineID + "\n"}, // An empty file means that this is not the first boot.
		{strings.Repeat("c", 32) + "\n", full.MachineID, full.MachineID + "\n"},
	} {
		g, _ := newGuest(t, map[string]string{"machine-id": c.old})
		g.InitsMachineID = c.given
		g.Configure(context.Background(), full)
		if got := g.read(t, "machine-id"); got != c.want {
			t.Errorf("%q became %q", c.old, got)
		}
	}
	g, _ := newGuest(t, nil)
	g.InitsMachineID = full.MachineID
	g.Configure(context.Background(), full)
	if _, err := os.Stat(g.etc("machine-id")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a machine id was made in place of the init: %v", err)
	}
}

func TestASymlinkInEtcIsReplacedAndNotWrittenThrough(t *testing.T) {
	g, _ := newGuest(t, map[string]string{"target": "safe"})
	if err := os.Symlink("target", g.etc("resolv.conf")); err != nil {
		t.Fatal(err)
	}
	g.Configure(context.Background(), full)
	if g.read(t, "target") != "safe" || !strings.HasPrefix(g.read(t, "resolv.conf"), "nameserver") {
		t.Error("the link was written through")
	}
}

func TestAFailureIsASentenceAndTheRestIsDone(t *testing.T) {
	g, kernel := newGuest(t, nil)
	kernel.failed = errors.New("no such luck")
	out := g.Configure(context.Background(), full)
	warnings := out.Warnings
	if len(out.NotRenewed) != 0 || len(warnings) != 5 || warnings[0] != "The entropy could not be added: no such luck" {
		t.Errorf("got %q", warnings)
	}
	if g.read(t, "hostname") != "web-1\n" {
		t.Error("the files were not written")
	}
}
