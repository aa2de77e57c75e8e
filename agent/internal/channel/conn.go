package channel

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// The number of reads in a row that contain nothing but the same hello after which a connection ends. A host that died
// and came back before the guest noticed sends hellos in the middle of HTTP/2. At a frame boundary their first bytes
// are a frame that is too large, which `frames` detects; inside a frame they would be taken for its payload. User data
// cannot look like this, because it is wrapped in frames.
const hellosThatEnd = 3

// Conn is one HTTP/2 connection on the stream. Closing it leaves the stream open for the next connection, so it must
// not read or write there afterwards: the HTTP/2 server may close it in the middle of either.
type Conn struct {
	net.Conn
	closed atomic.Bool

	reading sync.Mutex // Held during each read; guards the fields below.
	buffer  []byte
	pending []byte
	frames  frames
	hellos  int
	hello   string

	writing sync.Mutex
}

// Read reads bytes of this connection. It returns io.EOF if the host is gone or starts a new connection.
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
		return 0, io.EOF // `pending` keeps the hello for the next handshake.
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

// Close ends pending reads and writes. It sends nothing to the host, which ends its own side.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	return c.SetDeadline(time.Unix(1, 0))
}

// finish closes, waits until reads and writes are over, and returns what was read but not used, which may contain the
// next hello.
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
