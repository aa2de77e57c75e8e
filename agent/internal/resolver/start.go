package resolver

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// The file descriptors of both processes: their socket; then the control socket and the private networks of the guard,
// and the listeners of the parser, which are in the order of listenForGuest.
const (
	pairFD = 3 + iota
	controlFD
	networksFD
)

const (
	udpFD = 4 + iota
	tcpFD
)

// The ports of the parser. The namespace redirects connections to the last two; see src/helper/policy-program.ts.
const (
	dnsPort  = 53
	tlsPort  = 8443
	httpPort = 8080
)

// parserGID is the group of the parser, which the VMM does not have: the namespace lets it connect to peers. Debian
// calls it nogroup.
const parserGID = 65534

// The names by which the program starts itself.
const (
	GuardVerb  = "guard"
	ParserVerb = "parser"
	// ParserWithIPv6 is the argument of the parser if it has listeners for IPv6.
	ParserWithIPv6 = "ipv6"
)

// Options say where the resolver listens and who it is.
type Options struct {
	// Address is the guest's resolver: an address of this network namespace.
	Address netip.Addr
	// Address6 is the IPv6 address that connections over IPv6 are redirected to. It is not valid if there is none.
	Address6 netip.Addr
	// Control is the path of the socket for the helper. It belongs to root.
	Control string
	// UID is the user of both processes, and the group of the guard.
	UID uint32
	// Networks is the directory of the host's private networks, and Link is the VM's name there.
	Networks, Link string
}

// Start starts both processes, and returns when they can be asked. It takes root, in the network namespace of the VM.
func Start(options Options) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	listeners, err := listenForGuest(options.Address, options.Address6)
	if err != nil {
		return err
	}
	control, err := listenForHelper(options.Control)
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	ofGuard, ofParser := os.NewFile(uintptr(pair[0]), "guard"), os.NewFile(uintptr(pair[1]), "parser")
	// The parser has no capability, and sees no file but this program and those beside it.
	parser := []string{"/" + filepath.Base(program), ParserVerb}
	if options.Address6.IsValid() {
		parser = append(parser, ParserWithIPv6)
	}
	err = start(parser, append([]*os.File{ofParser}, listeners...), &syscall.SysProcAttr{
		Chroot:     filepath.Dir(program),
		Credential: &syscall.Credential{Uid: options.UID, Gid: parserGID, Groups: []uint32{}},
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Setsid:     true,
	})
	if err != nil {
		return fmt.Errorf("start the parser: %w", err)
	}
	networks, err := openNetworks(options.Networks, options.Link)
	if err != nil {
		return err
	}
	files := append([]*os.File{ofGuard, control}, networks...)
	err = start([]string{program, GuardVerb, options.Link, strconv.Itoa(len(networks))}, files, &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: options.UID, Gid: options.UID, Groups: []uint32{}},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
		Setsid:      true,
	})
	if err != nil {
		return fmt.Errorf("start the guard: %w", err)
	}
	return nil
}

// start starts a process that outlives this one. The parser ends when the guard does, by their socket.
func start(argv []string, files []*os.File, attributes *syscall.SysProcAttr) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	process, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: append([]*os.File{null, null, null}, files...), Sys: attributes,
	})
	if err != nil {
		return err
	}
	return process.Release()
}

// listenForGuest returns the listeners of the parser, in the order of their file descriptors.
func listenForGuest(address, address6 netip.Addr) ([]*os.File, error) {
	packets, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, dnsPort)))
	if err != nil {
		return nil, err
	}
	file, err := packets.File()
	if err != nil {
		return nil, err
	}
	files := []*os.File{file}
	listening := []netip.AddrPort{}
	for _, port := range []uint16{dnsPort, tlsPort, httpPort} {
		listening = append(listening, netip.AddrPortFrom(address, port))
	}
	if address6.IsValid() {
		listening = append(listening, netip.AddrPortFrom(address6, tlsPort), netip.AddrPortFrom(address6, httpPort))
	}
	for _, at := range listening {
		listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		if err != nil {
			return nil, err
		}
		if file, err = listener.File(); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// listenForHelper listens on a socket that only root may connect to.
func listenForHelper(path string) (*os.File, error) {
	before := unix.Umask(0o177)
	defer unix.Umask(before)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	// The processes that are started have it.
	listener.SetUnlinkOnClose(false)
	return listener.File()
}

// RunGuard is the guard's process, for a VM on a number of private networks.
func RunGuard(link string, count int) error {
	networks := neighbours{link: link}
	for at := range count {
		networks.files = append(networks.files, os.NewFile(uintptr(networksFD+at), "network"))
	}
	sets, err := NewSets()
	if err != nil {
		return err
	}
	control, err := net.FileListener(os.NewFile(controlFD, "control"))
	if err != nil {
		return err
	}
	return NewGuard(sets, networks, os.NewFile(pairFD, "parser")).Serve(control)
}

// RunParser is the parser's process.
func RunParser(hasIPv6 bool) error {
	if _, _, err := syscall.AllThreadsSyscall(syscall.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != 0 {
		return err
	}
	packets, err := net.FilePacketConn(os.NewFile(udpFD, "udp"))
	if err != nil {
		return err
	}
	families := 1
	if hasIPv6 {
		families = 2
	}
	listeners := Listeners{UDP: packets, TLS: make([]net.Listener, families), HTTP: make([]net.Listener, families)}
	inOrder := []*net.Listener{&listeners.TCP}
	for family := range families {
		inOrder = append(inOrder, &listeners.TLS[family], &listeners.HTTP[family])
	}
	for index, listener := range inOrder {
		if *listener, err = net.FileListener(os.NewFile(uintptr(tcpFD+index), "listener")); err != nil {
			return err
		}
	}
	return Parse(listeners, os.NewFile(pairFD, "guard"))
}
