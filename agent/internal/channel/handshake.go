// Package channel is the guest's end of the agent channel: the byte stream between host and agent, and the handshake
// with which each connection on it begins. docs/agent-channel.md is the contract.
//
//  1. ServePort, ServeVsock or Listen wait for a host.
//  2. greet reads until a whole hello line, drops all bytes before it, and answers each new nonce once.
//  3. The HTTP/2 preface after an answer makes a Conn, on which Server serves the RPCs.
//  4. frames and Conn.Read detect a hello in the middle of HTTP/2: a new host has replaced one that died.
//  5. The end of a Conn cancels the contexts of its requests. Unused bytes go to the next handshake.
package channel

import (
	"bytes"
	"errors"
	"net"
	"os"
	"time"
)

const (
	helloWord  = "HEARTH/1 "
	answerWord = "HEARTH-OK/1 "
	nonceChars = 32
	helloBytes = len(helloWord) + nonceChars + 1
	preface    = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

	// The most bytes of a read. More would cost memory without a gain.
	readBufferBytes = 64 << 10
	// A host that does not read even the answer to its hello is gone.
	answerTimeout = 2 * time.Second
)

// parser finds hellos and the HTTP/2 preface in the bytes before HTTP/2 begins. It keeps at most one incomplete line.
type parser struct {
	pending  []byte
	answered string // The nonce that was answered last; empty until the first hello.
}

type found int

const (
	foundNothing found = iota
	foundHello         // `answered` is a new nonce.
	foundPreface       // `pending` starts with the preface.
)

// next consumes the pending bytes up to the next hello or preface. All other bytes were left by an earlier connection
// and are dropped.
func (p *parser) next() found {
	for {
		hello, nonce := findHello(p.pending)
		start := -1
		if p.answered != "" {
			start = bytes.Index(p.pending, []byte(preface))
		}
		if start >= 0 && (hello < 0 || start < hello) {
			p.pending = p.pending[start:]
			return foundPreface
		}
		if hello < 0 {
			p.pending = keepTail(p.pending, helloBytes-1)
			return foundNothing
		}
		p.pending = p.pending[hello+helloBytes:]
		if nonce != p.answered {
			p.answered = nonce
			return foundHello
		}
	}
}

// findHello returns the position and nonce of the first complete hello line, or -1.
func findHello(b []byte) (int, string) {
	for from := 0; ; {
		at := bytes.Index(b[from:], []byte(helloWord))
		if at < 0 || from+at+helloBytes > len(b) {
			return -1, ""
		}
		at += from
		if isHello(b[at : at+helloBytes]) {
			return at, string(b[at+len(helloWord) : at+helloBytes-1])
		}
		from = at + 1
	}
}

func isHello(line []byte) bool {
	if len(line) != helloBytes || line[helloBytes-1] != '\n' || !bytes.HasPrefix(line, []byte(helloWord)) {
		return false
	}
	for _, c := range line[len(helloWord) : helloBytes-1] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func keepTail(b []byte, most int) []byte {
	if len(b) <= most {
		return b
	}
	return append([]byte(nil), b[len(b)-most:]...)
}

// greet reads until a host has sent a hello and begun HTTP/2. It returns a connection that starts with the preface.
func greet(raw net.Conn, pending []byte) (*Conn, error) {
	p := parser{pending: pending}
	buffer := make([]byte, readBufferBytes)
	for {
		switch p.next() {
		case foundPreface:
			return &Conn{Conn: raw, buffer: buffer, pending: p.pending}, nil
		case foundHello:
			if err := answer(raw, p.answered); err != nil {
				return nil, err
			}
		case foundNothing:
			n, err := raw.Read(buffer)
			p.pending = append(p.pending, buffer[:n]...)
			if err != nil && n == 0 {
				return nil, err
			}
		}
	}
}

// The largest frame that the host's HTTP/2 accepts, with its header.
const hostFrameBytes = 9 + 16<<10

// breakOff ends a connection that the host may still have with an agent that died, which the port does not report to
// the host. It fills a frame that was cut off, and begins one that is too large, which ends any HTTP/2 connection. A
// host that is sending hellos drops these bytes.
func breakOff(raw net.Conn) error {
	if err := raw.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	// A host that reads nothing is gone, and there is nothing to end.
	_, err := raw.Write(bytes.Repeat([]byte{0xff}, 2*hostFrameBytes))
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return raw.SetWriteDeadline(time.Time{})
}

func answer(raw net.Conn, nonce string) error {
	if err := raw.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if _, err := raw.Write([]byte(answerWord + nonce + "\n")); err != nil {
		return err
	}
	return raw.SetWriteDeadline(time.Time{})
}
