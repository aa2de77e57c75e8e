package channel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

const (
	nonceA = "0123456789abcdef0123456789abcdef"
	nonceB = "fedcba9876543210fedcba9876543210"
)

// host is the other side of the stream that the server under test reads.
type host struct {
	*testing.T
	net.Conn
	cancelled chan struct{} // Receives a value for each cancelled request.
}

func newHost(t *testing.T) *host {
	h := &host{T: t, cancelled: make(chan struct{}, 8)}
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hi") })
	mux.HandleFunc("/wait", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		h.cancelled <- struct{}{}
	})
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go NewServer(mux, log.New(io.Discard, "", 0)).Listen(ctx, listener)
	h.Conn, err = net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Conn.Close() })
	h.SetDeadline(time.Now().Add(20 * time.Second))
	return h
}

func (h *host) send(text string) {
	h.Helper()
	if _, err := io.WriteString(h.Conn, text); err != nil {
		h.Fatal(err)
	}
}

// awaitAnswer drops everything up to the answer to a nonce, as hosts do.
func (h *host) awaitAnswer(nonce string) {
	h.Helper()
	var got []byte
	one := make([]byte, 1)
	for !bytes.HasSuffix(got, []byte(answerWord+nonce+"\n")) {
		if _, err := h.Read(one); err != nil {
			h.Fatalf("no answer to %s: %v", nonce, err)
		}
		got = append(got, one...)
	}
}

func (h *host) handshake(nonce string) {
	h.Helper()
	h.send(helloWord + nonce + "\n")
	h.awaitAnswer(nonce)
}

func (h *host) http2() *http2.ClientConn {
	h.Helper()
	conn, err := (&http2.Transport{AllowHTTP: true}).NewClientConn(keepOpen{h.Conn})
	if err != nil {
		h.Fatal(err)
	}
	return conn
}

// keepOpen is the host's half of a stream that several connections use in turn.
type keepOpen struct{ net.Conn }

func (keepOpen) Close() error { return nil }

func (h *host) expectHello(conn *http2.ClientConn) {
	h.Helper()
	request, _ := http.NewRequest("GET", "http://agent/hello", nil)
	response, err := conn.RoundTrip(request)
	if err != nil {
		h.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != "hi" {
		h.Fatalf("got %q, %v", body, err)
	}
}

func TestAHelloIsAnsweredWithItsNonce(t *testing.T) {
	h := newHost(t)
	h.handshake(nonceA)
	h.expectHello(h.http2())
}

func TestRepeatedHellosHaveOneAnswerAndANewNonceHasItsOwn(t *testing.T) {
	h := newHost(t)
	h.send(strings.Repeat(helloWord+nonceA+"\n", 5) + helloWord + nonceB + "\n")
	want := answerWord + nonceA + "\n" + answerWord + nonceB + "\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(h, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v", got, err)
	}
	h.expectHello(h.http2())
}

func TestStaleBytesBeforeTheHelloAreDropped(t *testing.T) {
	h := newHost(t)
	h.send(strings.Repeat("\x00\x01stale", 300_000) + preface + helloWord + "not a nonce\nHEARTH/1 0123")
	h.handshake(nonceA)
	h.expectHello(h.http2())
}

func TestAHelloMayComeInPieces(t *testing.T) {
	h := newHost(t)
	for _, c := range helloWord + nonceA + "\n" {
		h.send(string(c))
	}
	h.awaitAnswer(nonceA)
	h.expectHello(h.http2())
}

func TestAHelloAtAFramesEdgeEndsTheConnectionAndItsRequests(t *testing.T) {
	h := newHost(t)
	h.handshake(nonceA)
	h.startWaiting()
	h.repeatHello(nonceB)
	<-h.cancelled
	h.expectHello(h.http2())
}

func TestAHelloInsideOfAFrameEndsTheConnectionToo(t *testing.T) {
	h := newHost(t)
	h.handshake(nonceA)
	h.startWaiting()
	// The header of a DATA frame of 1 MiB, whose payload never comes.
	h.send("\x0f\xff\xff\x00\x00\x00\x00\x00\x01")
	h.repeatHello(nonceB)
	<-h.cancelled
	h.expectHello(h.http2())
}

// The frame that the dead agent began is filled, and HTTP/2 refuses the frame after it.
func TestAnAgentThatComesAfterADeadOneEndsTheHostsConnection(t *testing.T) {
	host, guest := net.Pipe()
	defer host.Close()
	go breakOff(guest)
	cutOff := []byte{0, 0x40, 0, 0, 0, 0, 0, 0, 1, 'x'} // The header of 16 KiB of DATA, and one byte of them.
	framer := http2.NewFramer(io.Discard, io.MultiReader(bytes.NewReader(cutOff), host))
	framer.SetMaxReadFrameSize(16 << 10) // The host's limit, which is HTTP/2's default.
	host.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := framer.ReadFrame(); err != nil {
		t.Fatalf("the frame that was cut off: %v", err)
	}
	if _, err := framer.ReadFrame(); !errors.Is(err, http2.ErrFrameTooLarge) {
		t.Fatalf("after it: %v", err)
	}
}

// startWaiting begins a request that lasts as long as its connection. It does not read the answers, so that the test
// can.
func (h *host) startWaiting() {
	h.Helper()
	var raw bytes.Buffer
	framer := http2.NewFramer(&raw, nil)
	raw.WriteString(preface)
	framer.WriteSettings()
	framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: waitHeaders})
	h.send(raw.String())
}

// :method GET, :scheme http, :path /wait, :authority a; in HPACK without an index for the last two.
var waitHeaders = append([]byte{0x82, 0x86, 0x04, 5}, "/wait\x01\x01a"...)

// repeatHello sends the same hello every 50 ms until it is answered, as hosts do.
func (h *host) repeatHello(nonce string) {
	h.Helper()
	answered := make(chan struct{})
	written := make(chan struct{})
	go func() {
		defer close(written)
		for {
			io.WriteString(h.Conn, helloWord+nonce+"\n")
			select {
			case <-answered:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	h.awaitAnswer(nonce)
	close(answered)
	<-written // The last hello is sent completely before HTTP/2 begins.
}

func TestInputThatLooksLikeAHelloIsInputInsideOfHTTP2(t *testing.T) {
	c := &Conn{}
	frame := "\x00\x00\x2a\x00\x00\x00\x00\x00\x01" + helloWord + nonceA + "\n"
	for range 10 {
		if c.isNewHost([]byte(frame)) {
			t.Fatal("a frame was taken for a hello")
		}
	}
}
