// Package channel is the byte stream between the host and the agent, and how each connection on it begins.
// docs/agent-channel.md is the contract.
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

	// Frames of the host come in at most this many bytes a read; more costs memory and gains nothing.
	readBufferBytes = 64 << 10
	// A host that does not take even the answer to its hello is gone.
	answerTimeout = 2 * time.Second
)

// parser finds what matters in the bytes before HTTP/2 begins. It keeps no more than one line's worth of
// bytes that it cannot judge yet.
type parser struct {
	pending  []byte
	answered string // The nonce that was answered last; empty until the first hello.
}

type found int

const (
	foundNothing found = iota
	foundHello         // `answered` is a new nonce.
	foundPreface       // `pending` starts with it.
)

// next goes through the pending bytes up to the first thing of interest. Everything that is neither a hello
// nor the preface after one is what an earlier connection left behind, and is dropped.
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

// findHello gives the position and nonce of the first whole hello line, or -1.
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

// greet reads until a host has said hello and begun HTTP/2. The answer is a connection that starts with the
// preface.
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

// The host's HTTP/2 takes frames of up to this size, header and all.
const hostFrameBytes = 9 + 16<<10

// breakOff ends what the host may have under way with an agent that was here before and died: the port tells it
// nothing of that. It fills the frame that was cut off, if there is one, and begins one that is too large, which
// no HTTP/2 survives. A host that says hello drops it.
func breakOff(raw net.Conn) error {
	if err := raw.SetWriteDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	// A host that takes nothing has gone; then there is nothing to end.
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
