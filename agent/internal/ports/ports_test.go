package ports

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hearth.dev/agent/internal/accounts"
)

const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

func row(address, state string, inode int) string {
	return fmt.Sprintf("   0: %s 00000000:0000 %s 00000000:00000000 00:00000000 00000000     0        0 %d 1 0\n",
		address, state, inode)
}

// fakeProc is a directory like /proc, on a CPU that is little-endian.
type fakeProc struct {
	t   *testing.T
	dir string
}

func newProc(t *testing.T) fakeProc {
	t.Helper()
	return fakeProc{t, t.TempDir()}
}

func (p fakeProc) write(path, text string) {
	p.t.Helper()
	full := filepath.Join(p.dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p fakeProc) process(pid int, comm string, uid int, inodes ...int) {
	p.t.Helper()
	p.write(fmt.Sprintf("%d/comm", pid), comm+"\n")
	p.write(fmt.Sprintf("%d/status", pid), fmt.Sprintf("Name:\tx\nUid:\t0\t%d\t0\t0\n", uid))
	p.write(fmt.Sprintf("%d/fd/README", pid), "not a socket")
	for at, inode := range inodes {
		link := filepath.Join(p.dir, fmt.Sprintf("%d/fd/%d", pid, at+3))
		if err := os.Symlink(fmt.Sprintf("socket:[%d]", inode), link); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p fakeProc) list(change func(*Lister)) ([]Port, bool) {
	p.t.Helper()
	p.write("passwd", "www-data:x:33:33::/var/www:/usr/sbin/nologin\n")
	lister := Lister{Proc: p.dir, Users: accounts.Files{Passwd: filepath.Join(p.dir, "passwd")}}
	if change != nil {
		change(&lister)
	}
	found, truncated, err := lister.List(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return found, truncated
}

func TestEveryListenerHasItsAddressAndItsProgram(t *testing.T) {
	p := newProc(t)
	p.write("net/tcp", head+row("0100007F:1538", "0A", 10)+row("00000000:0050", "0A", 11)+row("0100007F:1538", "01", 12))
	p.write("net/tcp6", head+
		row("00000000000000000000000001000000:0CEA", "0A", 13)+
		row("0000000000000000FFFF00000100007F:1F90", "0A", 14))
	p.write("net/udp", head+row("0100007F:D431", "01", 15)+row("00000000:0035", "07", 16))
	p.process(1, "init", 0, 11, 13)
	p.process(20, "nginx", 33, 11)
	p.process(21, "nginx", 33, 11)
	p.process(30, "a\nb\xff\x1b", 4242, 10, 16)
	found, truncated := p.list(nil)
	want := []Port{
		{"tcp", netip.MustParseAddrPort("127.0.0.1:5432"), 30, "a\nb\uFFFD\x1b", "4242"},
		{"tcp", netip.MustParseAddrPort("0.0.0.0:80"), 20, "nginx", "www-data"},
		{"tcp", netip.MustParseAddrPort("[::1]:3306"), 1, "init", "root"},
		{"tcp", netip.MustParseAddrPort("127.0.0.1:8080"), 0, "", ""},
		{"udp", netip.MustParseAddrPort("0.0.0.0:53"), 30, "a\nb\uFFFD\x1b", "4242"},
	}
	if !slices.Equal(found, want) || truncated {
		t.Errorf("got %+v, truncated %v", found, truncated)
	}
}

func TestAGuestWithTooManySocketsOrFilesIsCutOffAndSaysSo(t *testing.T) {
	p := newProc(t)
	var tcp, udp strings.Builder
	for at := range 20 {
		tcp.WriteString(row(fmt.Sprintf("00000000:%04X", at+1), "0A", at+1))
		udp.WriteString(row("00000000:0035", "01", 1_000+at))
	}
	p.write("net/tcp", head+tcp.String())
	p.write("net/udp", head+udp.String()+row("00000000:0035", "07", 2_000))
	p.process(5, "many", 0, 1, 2, 3, 4)
	if found, truncated := p.list(nil); len(found) != 21 || truncated {
		t.Error(found, truncated)
	}
	if found, truncated := p.list(func(l *Lister) { l.portsMax = 7 }); len(found) != 7 || !truncated {
		t.Error("ports", found, truncated)
	}
	if found, truncated := p.list(func(l *Lister) { l.rowsMax = 20 }); len(found) != 20 || !truncated {
		t.Error("rows", found, truncated)
	}
	found, truncated := p.list(func(l *Lister) { l.filesMax = 2 })
	if known := slices.ContainsFunc(found, func(one Port) bool { return one.PID == 0 }); !known || !truncated {
		t.Error("files", found, truncated)
	}
}

func TestATableThatIsNoneIsAnErrorAndAGuestWithoutSocketsHasNone(t *testing.T) {
	p := newProc(t)
	if found, truncated := p.list(nil); len(found) != 0 || truncated {
		t.Error(found, truncated)
	}
	for _, table := range []string{"x\n", row("00:0050", "0A", 1), row("0100007F:XYZ", "0A", 1), row("0100007F", "0A", 1)} {
		p.write("net/tcp", head+table)
		if _, _, err := (Lister{Proc: p.dir}).List(t.Context()); err == nil {
			t.Errorf("%q is taken", table)
		}
	}
}

func TestTheKernelsOwnTablesHaveAServerOfThisProcess(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	client, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	found, _, err := Lister{Proc: "/proc", Users: accounts.System}.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for protocol, address := range map[string]net.Addr{"tcp": tcp.Addr(), "udp": udp.LocalAddr()} {
		has := func(one Port) bool {
			return one.Protocol == protocol && one.Address.String() == address.String() &&
				one.PID == uint32(os.Getpid()) && strings.HasPrefix(one.Program, "ports.test")
		}
		if !slices.ContainsFunc(found, has) {
			t.Errorf("%s %s is missing in %+v", protocol, address, found)
		}
	}
	if slices.ContainsFunc(found, func(one Port) bool { return one.Address.String() == client.LocalAddr().String() }) {
		t.Error("a client's port is listed")
	}
}
