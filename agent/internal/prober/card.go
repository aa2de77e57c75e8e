package prober

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// linkAddresses are the bytes of a frame before its type.
const linkAddresses = 12

// A card sends frames as they are, and keeps those that come in.
type card struct {
	fd      int
	mu      sync.Mutex
	frames  [][]byte
	arrived *sync.Cond
}

func networkOrder(value uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, value))
}

// openPacketSocket returns a socket for all frames of an interface, or of all if index is 0.
func openPacketSocket(index int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(networkOrder(unix.ETH_P_ALL)))
	if err != nil {
		return -1, err
	}
	address := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: index}
	if err := unix.Bind(fd, address); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func openCard(name string) (*card, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	fd, err := openPacketSocket(link.Index)
	if err != nil {
		return nil, err
	}
	opened := &card{fd: fd}
	opened.arrived = sync.NewCond(&opened.mu)
	go opened.receive()
	return opened, nil
}

// receive returns when the card is closed.
func (card *card) receive() {
	buffer := make([]byte, 65536)
	for {
		length, from, err := unix.Recvfrom(card.fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok || link.Pkttype == unix.PACKET_OUTGOING || length < linkAddresses {
			continue
		}
		card.mu.Lock()
		card.frames = append(card.frames, bytes.Clone(buffer[:length]))
		card.arrived.Broadcast()
		card.mu.Unlock()
	}
}

// Send sends the frames of a step. If it awaits an answer, returns after that.
func (card *card) Send(step Step) error {
	for _, frame := range step.Frames {
		if err := card.write(frame); err != nil {
			return err
		}
	}
	if !step.Await {
		return nil
	}
	late := false
	timer := time.AfterFunc(patience, func() {
		card.mu.Lock()
		defer card.mu.Unlock()
		late = true
		card.arrived.Broadcast()
	})
	defer timer.Stop()
	card.mu.Lock()
	defer card.mu.Unlock()
	for !card.seen(step.Answer) {
		if late {
			return fmt.Errorf("no answer in %s: %w", patience, errOutcome("silent"))
		}
		card.arrived.Wait()
	}
	return nil
}

// write waits while the queue of the card is full: a flood is sent as a whole.
func (card *card) write(frame []byte) error {
	for {
		_, err := unix.Write(card.fd, frame)
		if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) {
			time.Sleep(time.Millisecond)
			continue
		}
		return err
	}
}

// Seen tells whether a frame has come that begins so.
func (card *card) Seen(beginning []byte) bool {
	card.mu.Lock()
	defer card.mu.Unlock()
	return card.seen(beginning)
}

func (card *card) seen(beginning []byte) bool {
	for _, frame := range card.frames {
		if bytes.HasPrefix(frame[linkAddresses:], beginning) {
			return true
		}
	}
	return false
}

func (card *card) Close() error { return unix.Close(card.fd) }
