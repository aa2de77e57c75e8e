package channel

import (
	"context"
	"fmt"
	"net"

	"github.com/mdlayher/vsock"
)

// VsockPort is the port on which the agent listens for the host, on VMMs that have vsock in place of a virtio-serial
// port.
const VsockPort = 1024

// hostOnly closes every connection that does not come from the host. A program in the guest may open a vsock connection
// to its own guest, and the agent does for its callers what only root can.
type hostOnly struct{ net.Listener }

func (l hostOnly) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if address, ok := conn.RemoteAddr().(*vsock.Addr); ok && address.ContextID == vsock.Host {
			return conn, nil
		}
		conn.Close()
	}
}

// ServeVsock serves the host's connections, each of which begins with a handshake. It ends with ctx.
func (s *Server) ServeVsock(ctx context.Context) error {
	listener, err := vsock.Listen(VsockPort, nil)
	if err != nil {
		return fmt.Errorf("listen on vsock port %d: %w", VsockPort, err)
	}
	return s.Listen(ctx, hostOnly{listener})
}
