package prober

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// frameOf returns a frame with an IPv4 packet of this protocol, whose payload begins with two ports.
func frameOf(protocol byte, fromPort uint16, text string) []byte {
	frame := append(make([]byte, linkAddresses), 0x08, 0x00)
	packet := make([]byte, 20)
	packet[0], packet[9] = 0x45, protocol
	ports := binary.BigEndian.AppendUint16(nil, fromPort)
	return append(append(append(frame, packet...), ports...), append([]byte{0, 7}, text...)...)
}

func TestAPacketIsRecognizedByItsTextOrByThePortOfItsConnection(t *testing.T) {
	const tcp, udp = 6, 17
	for _, test := range []struct {
		frame    []byte
		id       string
		fromPort int
	}{
		{frameOf(udp, 4000, "probe:host-udp;"), "host-udp", 0},
		{frameOf(tcp, 20001, ""), "", 20001},
		{frameOf(udp, 20001, ""), "", 0},
		{frameOf(tcp, 443, ""), "", 0},
		{frameOf(udp, 4000, "probe:;"), "", 0},
		{[]byte{1, 2, 3}, "", 0},
		{frameOf(tcp, 20001, "")[:34], "", 0},
	} {
		var seen Sighting
		found := recognize(&seen, test.frame)
		if seen.ID != test.id || seen.FromPort != test.fromPort || found != (test.id != "" || test.fromPort != 0) {
			t.Errorf("%q is recognized as %+v", test.frame, seen)
		}
	}
}

func TestAnOutcomeTellsARefusalFromASilence(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, "rejected"},
		{&net.OpError{Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "refused"},
		{&net.OpError{Err: os.NewSyscallError("read", syscall.ECONNRESET)}, "reset"},
		{io.EOF, "reset"},
		{os.ErrDeadlineExceeded, "silent"},
		{errOutcome("empty"), "empty"},
		{errors.New("anything else"), "failed"},
	} {
		if got := outcomeOf(test.err); got != test.want {
			t.Errorf("%v is %s, not %s", test.err, got, test.want)
		}
	}
}

func TestAStepThatCannotBeReadIsNamed(t *testing.T) {
	_, err := readSteps(strings.NewReader("{\"id\":\"a\"}\n{\"id\":3}"))
	if err == nil || !strings.HasPrefix(err.Error(), "step 2: ") {
		t.Errorf("the error is %v", err)
	}
}

func TestAServerEchoesAndHasACertificateForItsName(t *testing.T) {
	certificate, err := certificateFor("web.example")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() { _ = echoStreams(listener) }() // Ends with the listener.
	step := Step{To: listener.Addr().String(), Name: "web.example", Verify: true}
	if name, err := shakeHands(step); name != "" && name != "web.example" || err != nil {
		t.Errorf("the certificate is for %q: %v", name, err)
	}
	step.Name = "other.example"
	if _, err := shakeHands(step); outcomeOf(err) != "untrusted" {
		t.Errorf("the certificate of another name: %v", err)
	}
}

func TestAClientHelloIsHiddenBehindAnotherName(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	list, err := hiddenBehind("public.example")
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{ServerName: "hidden.example", EncryptedClientHelloConfigList: list, MinVersion: tls.VersionTLS13}
	go func() {
		_ = tls.Client(here, config).Handshake() // Nobody answers.
		_ = here.Close()
	}()
	if err := there.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	hello := make([]byte, 16384)
	length, err := there.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	sent := string(hello[:length])
	if !strings.Contains(sent, "public.example") || strings.Contains(sent, "hidden.example") {
		t.Errorf("the names of %q", sent)
	}
}
