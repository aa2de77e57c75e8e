package resolver

import (
	"bufio"
	"encoding/json"
	"io"
	"net/netip"
	"sync"
)

// learn asks the guard to make addresses reachable.
type learn struct {
	ID        uint64       `json:"id"`
	Domains   []Domain     `json:"domains"`
	Addresses []netip.Addr `json:"addresses"`
	TTL       uint32       `json:"ttl"`
}

// learned is the guard's answer to learn.
type learned struct {
	ID uint64 `json:"id"`
	OK bool   `json:"ok"`
}

// find asks the guard for a VM on the private networks.
type find struct {
	ID   uint64 `json:"id"`
	Name string `json:"name"`
}

// found is the guard's answer to find. OK is false if there is no such VM, and Failed is true if that is not known.
type found struct {
	ID        uint64       `json:"id"`
	OK        bool         `json:"ok"`
	Failed    bool         `json:"failed,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
}

// toParser is a message of the guard, with one of its fields.
type toParser struct {
	Config  *Config  `json:"config,omitempty"`
	Learned *learned `json:"learned,omitempty"`
	Found   *found   `json:"found,omitempty"`
}

// toGuard is a message of the parser, with one of its fields.
type toGuard struct {
	Configured bool   `json:"configured,omitempty"`
	Learn      *learn `json:"learn,omitempty"`
	Find       *find  `json:"find,omitempty"`
}

// lines writes and reads messages, each of which is a line of JSON.
type lines struct {
	scanner *bufio.Scanner
	writing sync.Mutex
	encoder *json.Encoder
}

func newLines(stream io.ReadWriter) *lines {
	scanner := bufio.NewScanner(stream)
	scanner.Buffer(make([]byte, 0, 4096), MessageMaxBytes)
	return &lines{scanner: scanner, encoder: json.NewEncoder(stream)}
}

// read reads one message. io.EOF is the end of the stream.
func (l *lines) read(message any) error {
	if !l.scanner.Scan() {
		if err := l.scanner.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	return json.Unmarshal(l.scanner.Bytes(), message)
}

// write writes one message. It may be called at the same time by several.
func (l *lines) write(message any) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.encoder.Encode(message)
}
