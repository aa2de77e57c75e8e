package resolver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// checkedParser returns a parser whose policy allows names below example with a check, at one port.
func checkedParser(t *testing.T, port uint16) (*Parser, *Config, *recorder) {
	t.Helper()
	learner := &recorder{}
	parser := NewParser(learner, nil)
	rules := []Rule{
		{Domain: "*.example", Set: "names0", Check: CheckTLS, First: port, Last: port},
		{Domain: "*.example", Set: "names1", Check: CheckHTTP, First: port, Last: port},
		{Domain: "free.test", Set: "names2"},
	}
	// Whatever it is asked for is here.
	asked := upstream(t, records(t, "a.example. 60 IN A 127.0.0.1", "free.test. 60 IN A 127.0.0.1"))
	config := &Config{Upstream: asked, RefuseOthers: true, Rules: rules}
	parser.Configure(*config)
	return parser, config, learner
}

func portOfListener(t *testing.T, address net.Addr) uint16 {
	t.Helper()
	return netip.MustParseAddrPort(address.String()).Port()
}

// throughTLS returns a connection to the check, which goes to 127.0.0.1 at this port.
func throughTLS(t *testing.T, parser *Parser, port uint16) *net.TCPConn {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := listener.Accept()
		if err == nil {
			parser.ServeTLS(conn.(*net.TCPConn), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port))
		}
	}()
	conn, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		<-served
	})
	return conn.(*net.TCPConn)
}

// tlsPeer serves TLS, and says what it was told.
func tlsPeer(t *testing.T) (uint16, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"a.example"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	made, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(made)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	listener, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{made}, PrivateKey: key}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return portOfListener(t, listener.Addr()), pool
}

func TestATLSConnectionToAnAllowedNameIsForwardedToItsEnd(t *testing.T) {
	port, pool := tlsPeer(t)
	parser, _, learner := checkedParser(t, port)
	client := tls.Client(throughTLS(t, parser, port), &tls.Config{ServerName: "a.example", RootCAs: pool})
	sent := bytes.Repeat([]byte("hello "), 100_000)
	go func() {
		_, _ = client.Write(sent)
		_ = client.CloseWrite()
	}()
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if !slices.Equal(learner.domains, []Domain{"*.example"}) {
		t.Errorf("learned for %v", learner.domains)
	}
}

func TestATLSConnectionToAnotherNameOrNoneIsReset(t *testing.T) {
	port, _ := tlsPeer(t)
	parser, _, _ := checkedParser(t, port)
	for _, name := range []string{"", "other.test", "example", "free.test"} {
		client := tls.Client(throughTLS(t, parser, port), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err := client.Handshake(); err == nil {
			t.Errorf("%q is connected", name)
		}
	}
	// The same client with an allowed name, and another port.
	if err := tls.Client(throughTLS(t, parser, port), &tls.Config{ServerName: "A.Example", InsecureSkipVerify: true}).Handshake(); err != nil {
		t.Error(err)
	}
	if err := tls.Client(throughTLS(t, parser, port-1), &tls.Config{ServerName: "a.example", InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("another port is connected")
	}
}

func TestAHandshakeThatHidesItsNameIsRefused(t *testing.T) {
	port, _ := tlsPeer(t)
	parser, _, _ := checkedParser(t, port)
	hidden := &tls.Config{
		ServerName: "a.example", InsecureSkipVerify: true, MinVersion: tls.VersionTLS13,
		EncryptedClientHelloConfigList:      hidingConfigs(),
		EncryptedClientHelloRejectionVerify: func(tls.ConnectionState) error { return nil },
	}
	rejected := new(tls.ECHRejectionError)
	direct, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	if err := tls.Client(direct, hidden).Handshake(); !errors.As(err, &rejected) {
		t.Fatalf("a peer without the check does not see the handshake: %v", err)
	}
	if err := tls.Client(throughTLS(t, parser, port), hidden).Handshake(); err == nil || errors.As(err, &rejected) {
		t.Errorf("%v", err)
	}
}

// hidingConfigs returns a list with one configuration of encrypted client hello, whose public name is allowed.
func hidingConfigs() []byte {
	public := bytes.Repeat([]byte{9}, 32) // X25519; any bytes are a key.
	name := "public.example"
	contents := []byte{1, 0, 0x20, 0, 32}
	contents = append(contents, public...)
	contents = append(contents, 0, 4, 0, 1, 0, 1, 0, byte(len(name)))
	contents = append(contents, name...)
	contents = append(contents, 0, 0)
	config := append([]byte{0xfe, 0x0d, 0, byte(len(contents))}, contents...)
	return append([]byte{0, byte(len(config))}, config...)
}

func TestAConnectionIsResetWhenThePolicyDoesNotAllowItAnyMore(t *testing.T) {
	port, pool := tlsPeer(t)
	parser, config, _ := checkedParser(t, port)
	client := tls.Client(throughTLS(t, parser, port), &tls.Config{ServerName: "a.example", RootCAs: pool})
	talk := func() error {
		if _, err := client.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(client, make([]byte, 1))
		return err
	}
	if err := talk(); err != nil {
		t.Fatal(err)
	}
	parser.Configure(*config)
	if err := talk(); err != nil {
		t.Errorf("the same policy: %v", err)
	}
	parser.Configure(Config{Upstream: config.Upstream, Rules: config.Rules[1:]})
	if err := talk(); err == nil {
		t.Error("it continues")
	}
}

// throughHTTP returns a client whose requests go through the check to 127.0.0.1 at this port.
func throughHTTP(t *testing.T, parser *Parser, port uint16) *http.Client {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	original := func(net.Conn) (netip.AddrPort, error) {
		return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), nil
	}
	server := parser.HTTP()
	go func() { _ = server.Serve(newRedirectedListener(listener, original)) }()
	t.Cleanup(func() { server.Close() })
	transport := &http.Transport{Dial: func(string, string) (net.Conn, error) {
		return net.Dial("tcp4", listener.Addr().String())
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestEachHTTPRequestIsChecked(t *testing.T) {
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.Host, body)
	}))
	defer peer.Close()
	port := portOfListener(t, peer.Listener.Addr())
	parser, _, _ := checkedParser(t, port)
	client := throughHTTP(t, parser, port)
	ask := func(host string) (int, string) {
		answer, err := client.Post(fmt.Sprintf("http://%s/", host), "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	allowed := fmt.Sprintf("a.example:%d", port)
	for range 2 {
		if code, text := ask(allowed); code != 200 || text != "POST "+allowed+" body" {
			t.Errorf("%d %s", code, text)
		}
		for _, host := range []string{
			fmt.Sprintf("other.test:%d", port), fmt.Sprintf("free.test:%d", port), "a.example", "a.example:1",
			fmt.Sprintf("127.0.0.1:%d", port),
		} {
			if code, text := ask(host); code != http.StatusForbidden || !strings.HasPrefix(text, "hearth: ") {
				t.Errorf("%s: %d %s", host, code, text)
			}
		}
	}
}

func TestAWebSocketPassesAndIsResetWithItsPolicy(t *testing.T) {
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, stream, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(stream, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
		_ = stream.Flush()
		_, _ = io.Copy(conn, stream)
	}))
	defer peer.Close()
	port := portOfListener(t, peer.Listener.Addr())
	parser, config, _ := checkedParser(t, port)
	client := throughHTTP(t, parser, port)
	request, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://a.example:%d/", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "test")
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	stream, isUpgraded := answer.Body.(io.ReadWriter)
	if !isUpgraded {
		t.Fatalf("%d", answer.StatusCode)
	}
	if _, err := stream.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stream, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	parser.Configure(Config{Upstream: config.Upstream})
	if _, err := io.ReadFull(stream, make([]byte, 1)); err == nil {
		t.Error("it continues")
	}
}

func TestAHundredThousandDamagedHandshakesAreReadWithoutAPanic(t *testing.T) {
	var first bytes.Buffer
	ours, theirs := net.Pipe()
	go func() {
		_ = tls.Client(ours, &tls.Config{ServerName: "a.example", InsecureSkipVerify: true}).Handshake()
	}()
	_ = theirs.SetReadDeadline(time.Now().Add(time.Second))
	buffer := make([]byte, 4096)
	n, err := theirs.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	theirs.Close()
	first.Write(buffer[:n])
	if name, raw, err := readHello(&oneMessage{Reader: bytes.NewReader(first.Bytes())}); name != "a.example" || len(raw) != n || err != nil {
		t.Fatalf("%q %d %v", name, len(raw), err)
	}
	for packet := range damaged(first.Bytes(), 100_000) {
		_, _, _ = readHello(&oneMessage{Reader: bytes.NewReader(packet)})
	}
}

// oneMessage is a connection with this to read.
type oneMessage struct {
	net.Conn
	io.Reader
}

func (m *oneMessage) Read(buffer []byte) (int, error) { return m.Reader.Read(buffer) }
func (m *oneMessage) Close() error                    { return nil }
func (m *oneMessage) SetDeadline(time.Time) error     { return nil }
func (m *oneMessage) SetWriteDeadline(time.Time) error {
	return nil
}

func TestAnHTTPRequestWithoutAHostIsRefused(t *testing.T) {
	parser, _, _ := checkedParser(t, 80)
	original := netip.MustParseAddrPort("127.0.0.1:80")
	for _, host := range []string{"", ":80", "."} {
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.Host = host
		request = request.WithContext(context.WithValue(t.Context(), originalKey{}, original))
		answer := httptest.NewRecorder()
		parser.HTTP().Handler.ServeHTTP(answer, request)
		if answer.Code != http.StatusForbidden {
			t.Errorf("%q: %d", host, answer.Code)
		}
	}
}
