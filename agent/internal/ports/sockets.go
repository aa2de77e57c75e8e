package ports

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

type socket struct {
	protocol string
	address  netip.AddrPort
	inode    uint64
}

// The states of sockets that wait for peers, as the kernel's tables have them: a UDP socket without a peer is "closed".
const (
	tcpListen = "0A"
	udpNoPeer = "07"
)

// A guest without IPv6 has no tables for it.
var tables = []struct {
	name, protocol, state string
	// listenersFirst says that the rows with this state come before all others.
	listenersFirst bool
}{
	{"tcp", "tcp", tcpListen, true},
	{"tcp6", "tcp", tcpListen, true},
	{"udp", "udp", udpNoPeer, false},
	{"udp6", "udp", udpNoPeer, false},
}

func (l Lister) sockets(ctx context.Context, most int) (found []socket, truncated bool, err error) {
	for _, table := range tables {
		rows := 0
		err := eachRow(filepath.Join(l.Proc, "net", table.name), func(row []string) (bool, error) {
			if rows++; rows > orDefault(l.rowsMax, defaultRowsMax) {
				truncated = true
				return false, nil
			}
			if row[3] != table.state {
				return !table.listenersFirst, ctx.Err()
			}
			if len(found) == most {
				truncated = true
				return false, nil
			}
			one, err := parseSocket(table.protocol, row)
			found = append(found, one)
			return true, errors.Join(err, ctx.Err())
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, false, fmt.Errorf("cannot read the sockets of the guest: %w", err)
		}
	}
	return found, truncated, nil
}

// eachRow calls visit with the columns of each row below the head, until it returns false.
func eachRow(path string, visit func(row []string) (bool, error)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Scan()
	for lines.Scan() {
		row := strings.Fields(lines.Text())
		if len(row) < 10 {
			return fmt.Errorf("%s: %q is not a socket", path, lines.Text())
		}
		if more, err := visit(row); err != nil || !more {
			return err
		}
	}
	return lines.Err()
}

// parseSocket reads the columns of a row that proc_net_tcp(5) describes: the second is the local address, the tenth
// the inode.
func parseSocket(protocol string, row []string) (socket, error) {
	address, err := parseAddress(row[1])
	if err != nil {
		return socket{}, err
	}
	inode, err := strconv.ParseUint(row[9], 10, 64)
	return socket{protocol: protocol, address: address, inode: inode}, err
}

// parseAddress reads an address in hex, of which each 32 bits have the byte order of the CPU, and a port in hex.
func parseAddress(text string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	if err != nil || (len(raw) != 4 && len(raw) != 16) {
		return netip.AddrPort{}, fmt.Errorf("%q is not an address", text)
	}
	for at := 0; at < len(raw); at += 4 {
		binary.BigEndian.PutUint32(raw[at:], binary.NativeEndian.Uint32(raw[at:]))
	}
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q has no port", text)
	}
	address, _ := netip.AddrFromSlice(raw)
	// A socket for IPv6 may be bound to an address of IPv4.
	return netip.AddrPortFrom(address.Unmap(), uint16(number)), nil
}
