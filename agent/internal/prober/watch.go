package prober

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// A Sighting is a packet of a step at an interface.
type Sighting struct {
	// Place is the name that the namespace has on the command line.
	Place string `json:"place"`
	Link  string `json:"link"`
	// Leaves tells that the packet leaves the namespace by the interface, and does not enter it there.
	Leaves bool `json:"leaves"`
	// ID is that of the step, which the packet contains.
	ID string `json:"id,omitempty"`
	// FromPort is the port of the step whose connection begins.
	FromPort int `json:"fromPort,omitempty"`
}

// marker is in the payload of each packet but those of connections, whose ports tell their steps.
var marker = regexp.MustCompile(`probe:([a-z0-9-]+);`)

// Connections of steps come from these ports.
const (
	firstPort = 20000
	lastPort  = 29999
)

// A place is a network namespace with a socket that sees all its frames.
type place struct {
	name  string
	fd    int
	links map[int]string
}

// Watch writes sightings to out until in ends. For each line of in, writes an empty object once all that was there
// before is written.
func Watch(namespaces []string, in io.Reader, out io.Writer) error {
	var places []place
	for _, argument := range namespaces {
		name, path, _ := strings.Cut(argument, "=")
		opened, err := openPlace(name, path)
		if err != nil {
			return fmt.Errorf("%s: %w", argument, err)
		}
		places = append(places, opened)
	}
	asked, wake, err := os.Pipe()
	if err != nil {
		return err
	}
	go func() {
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			if _, err := wake.Write([]byte{1}); err != nil {
				break
			}
		}
		_ = wake.Close() // Tells the end of in.
	}()
	encoder := json.NewEncoder(out)
	if err := encoder.Encode(struct{}{}); err != nil {
		return err
	}
	for {
		requests, err := waitFor(places, int(asked.Fd()))
		if err != nil {
			return err
		}
		for _, place := range places {
			if err := place.drain(encoder); err != nil {
				return err
			}
		}
		if !requests {
			continue
		}
		if _, err := asked.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := encoder.Encode(struct{}{}); err != nil {
			return err
		}
	}
}

// waitFor returns when there are frames, or when there is a request, which it tells.
func waitFor(places []place, request int) (bool, error) {
	polled := []unix.PollFd{{Fd: int32(request), Events: unix.POLLIN}}
	for _, place := range places {
		polled = append(polled, unix.PollFd{Fd: int32(place.fd), Events: unix.POLLIN})
	}
	for {
		_, err := unix.Poll(polled, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return polled[0].Revents != 0, err
	}
}

// openPlace opens the socket on a thread of its own, which ends with its namespace.
func openPlace(name, path string) (place, error) {
	type result struct {
		place place
		err   error
	}
	results := make(chan result)
	go func() {
		runtime.LockOSThread()
		opened, err := openHere(name, path)
		results <- result{opened, err}
	}()
	found := <-results
	return found.place, found.err
}

func openHere(name, path string) (place, error) {
	namespace, err := os.Open(path)
	if err != nil {
		return place{}, err
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return place{}, err
	}
	links, err := net.Interfaces()
	if err != nil {
		return place{}, err
	}
	names := map[int]string{}
	for _, link := range links {
		names[link.Index] = link.Name
	}
	fd, err := openPacketSocket(0)
	if err != nil {
		return place{}, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return place{}, err
	}
	// A flood must not hide what comes after it.
	return place{name, fd, names}, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 1<<23)
}

// drain writes sightings of all frames that have come.
func (place place) drain(encoder *json.Encoder) error {
	frame := make([]byte, 65536)
	for {
		length, from, err := unix.Recvfrom(place.fd, frame, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) {
			continue
		}
		if err != nil {
			return err
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok {
			continue
		}
		seen := Sighting{
			Place:  place.name,
			Link:   place.links[link.Ifindex],
			Leaves: link.Pkttype == unix.PACKET_OUTGOING,
		}
		if recognize(&seen, frame[:length]) {
			if err := encoder.Encode(seen); err != nil {
				return err
			}
		}
	}
}

// recognize sets the step of a frame, if it is of one.
func recognize(seen *Sighting, frame []byte) bool {
	if found := marker.FindSubmatch(frame); found != nil {
		seen.ID = string(found[1])
		return true
	}
	const ethernet, ipv4, tcp = 14, 0x0800, 6
	if len(frame) < ethernet+20 || binary.BigEndian.Uint16(frame[linkAddresses:]) != ipv4 {
		return false
	}
	packet := frame[ethernet:]
	header := int(packet[0]&0xf) * 4
	if packet[9] != tcp || len(packet) < header+2 {
		return false
	}
	port := int(binary.BigEndian.Uint16(packet[header:]))
	if port < firstPort || port > lastPort {
		return false
	}
	seen.FromPort = port
	return true
}
