package channel

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A host that died and came back faster than the guest could see it says hello in the middle of HTTP/2. At a
// frame's edge the hello's first bytes are a frame that is too large, which `frames` sees; inside of a frame
// they would be swallowed as its rest. So reads that bring nothing but the same hello, this many in a
// row, end the connection too. What a user sends is wrapped in frames and never looks like that.
const hellosThatEnd = 3

// Conn is one HTTP/2 connection on the stream. Closing it leaves the stream open for the next, so it takes care
// that nothing of it reads or writes there afterwards: HTTP/2 may close it in the middle of either.
type Conn struct {
	net.Conn
	closed atomic.Bool

	reading sync.Mutex // Guards what follows, and each read.
	buffer  []byte
	pending []byte
	frames  frames
	hellos  int
	hello   string

	writing sync.Mutex
}

// Read gives bytes of this connection; io.EOF when the host is gone or wants a new one.
func (c *Conn) Read(out []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	if len(c.pending) == 0 {
		n, err := c.Conn.Read(c.buffer)
		c.pending = c.buffer[:n]
		if c.isNewHost(c.pending) {
			return 0, io.EOF
		}
		if n == 0 {
			return 0, err
		}
	}
	n := copy(out, c.pending)
	if c.frames.brokenBy(out[:n]) {
		return 0, io.EOF // What is pending holds the hello, for the next handshake.
	}
	c.pending = c.pending[n:]
	return n, nil
}

func (c *Conn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

// Close ends reads and writes that wait. It says nothing to the host, whose own end knows.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	return c.SetDeadline(time.Unix(1, 0))
}

// finish closes, waits for reads and writes to be over, and gives back what was read but not used: it may
// hold the next hello.
func (c *Conn) finish() []byte {
	c.Close()
	c.writing.Lock()
	defer c.writing.Unlock()
	c.reading.Lock()
	defer c.reading.Unlock()
	return append([]byte(nil), c.pending...)
}

func (c *Conn) isNewHost(b []byte) bool {
	if len(b) == 0 || len(b)%helloBytes != 0 || len(b) > 16*helloBytes {
		c.hellos = 0
		return false
	}
	for line := b; len(line) > 0; line = line[helloBytes:] {
		if !isHello(line[:helloBytes]) {
			c.hellos = 0
			return false
		}
		if text := string(line[:helloBytes]); text != c.hello {
			c.hello, c.hellos = text, 0
		}
	}
	c.hellos++
	return c.hellos >= hellosThatEnd
}
