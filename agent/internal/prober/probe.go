// Package prober tests network policies from both ends.
//
//  1. In the guest, `probe` reads steps as JSON lines, takes one after the other, and writes an outcome for each.
//  2. In namespaces of the test, `serve` answers what reaches it, as a host of the Internet would.
//  3. On the host, `watch` tells at which interfaces the packets of each step were seen.
package prober

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// A Step is one packet or one connection of the guest.
type Step struct {
	ID string `json:"id"`
	// Do is tcp, udp, icmp, dns, tls or frame.
	Do string `json:"do"`
	// To is an address and a port; an address alone for icmp.
	To string `json:"to,omitempty"`
	// Text is what is sent.
	Text string `json:"text,omitempty"`
	// Until is the end of the answer that a TCP client waits for; without one, the first bytes are enough.
	Until string `json:"until,omitempty"`
	// FromPort is the port that a connection comes from, by which it is recognized.
	FromPort int `json:"fromPort,omitempty"`
	// Name is the question of dns, and the name that tls sends; none if empty.
	Name string `json:"name,omitempty"`
	// Type is that of the question: A, AAAA, HTTPS.
	Type string `json:"type,omitempty"`
	// Hidden has tls send Encrypted Client Hello, with Name inside and this name outside.
	Hidden string `json:"hidden,omitempty"`
	// Verify has tls check the certificate's name.
	Verify bool `json:"verify,omitempty"`
	// Frames are sent as they are.
	Frames [][]byte `json:"frames,omitempty"`
	// Answer is a frame's beginning, from the byte after the addresses of its link, that answers the step's frames.
	Answer []byte `json:"answer,omitempty"`
	// Await has the prober wait for the answer, which all answers to earlier steps precede.
	Await bool `json:"await,omitempty"`
}

// An Outcome is what the guest has seen of a step.
type Outcome struct {
	ID string `json:"id"`
	// Outcome is answered, rejected (by a router, as prohibited), refused (by the peer, or in a DNS answer), empty (a
	// DNS answer without an address), reset, untrusted (a certificate), silent, sent (nothing is waited for) or failed.
	Outcome string `json:"outcome"`
	// Detail is the beginning of the answer, or the error.
	Detail string `json:"detail,omitempty"`
}

// patience bounds the wait for something that should come at once. Where nothing comes, it is lost soon.
var patience = 3 * time.Second

// silencesMax is the number of steps without an answer after which patience is lost.
const silencesMax = 5

// again is the time after which a packet without an answer is sent again: errors about packets are limited in rate.
const again = 200 * time.Millisecond

const cardName = "eth0"

// Probe takes the steps of in, and writes their outcomes to out.
func Probe(in io.Reader, out io.Writer) error {
	card, err := openCard(cardName)
	if err != nil {
		return err
	}
	defer card.Close()
	steps, err := readSteps(in)
	if err != nil {
		return err
	}
	outcomes := make([]Outcome, len(steps))
	silences := 0
	for index, step := range steps {
		outcomes[index] = take(step, card)
		if outcomes[index].Outcome == "silent" {
			silences++
		}
		if silences == silencesMax {
			patience = again
		}
	}
	encoder := json.NewEncoder(out)
	for index, step := range steps {
		if step.Answer != nil && card.Seen(step.Answer) {
			outcomes[index].Outcome = "answered"
		}
		if err := encoder.Encode(outcomes[index]); err != nil {
			return err
		}
	}
	return nil
}

func readSteps(in io.Reader) ([]Step, error) {
	var steps []Step
	decoder := json.NewDecoder(bufio.NewReader(in))
	for {
		var step Step
		if err := decoder.Decode(&step); errors.Is(err, io.EOF) {
			return steps, nil
		} else if err != nil {
			return nil, fmt.Errorf("step %d: %w", len(steps)+1, err)
		}
		steps = append(steps, step)
	}
}

func take(step Step, card *card) Outcome {
	detail, err := "", error(nil)
	switch step.Do {
	case "tcp":
		detail, err = overTCP(step)
	case "udp":
		detail, err = overUDP(step)
	case "icmp":
		detail, err = ping(step)
	case "dns":
		detail, err = ask(step)
	case "tls":
		detail, err = shakeHands(step)
	case "frame":
		if err = card.Send(step); err == nil {
			return Outcome{step.ID, "sent", ""}
		}
	default:
		err = fmt.Errorf("%q is nothing that can be done", step.Do)
	}
	if err != nil {
		return Outcome{step.ID, outcomeOf(err), err.Error()}
	}
	return Outcome{step.ID, "answered", detail}
}

// errOutcome is an outcome that no error of the kernel tells.
type errOutcome string

func (outcome errOutcome) Error() string { return string(outcome) }

func outcomeOf(err error) string {
	var known errOutcome
	switch {
	case errors.As(err, &known):
		return string(known)
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "rejected"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF):
		return "reset"
	case isTimeout(err):
		return "silent"
	}
	return "failed"
}

func isTimeout(err error) bool {
	var timed net.Error
	return errors.As(err, &timed) && timed.Timeout()
}

func dial(step Step) (net.Conn, error) {
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{Port: step.FromPort}}
	dialer.Control = func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
		})
		return errors.Join(err, failed)
	}
	connection, err := dialer.Dial("tcp4", step.To)
	if err != nil {
		return nil, err
	}
	// The end of a connection is sent at once: the next one from this port is another one.
	if err := connection.(*net.TCPConn).SetLinger(0); err != nil {
		return nil, errors.Join(err, connection.Close())
	}
	return connection, connection.SetDeadline(time.Now().Add(patience))
}

func overTCP(step Step) (string, error) {
	connection, err := dial(step)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, step.Text); err != nil {
		return "", err
	}
	return read(connection, step.Until)
}

func read(connection net.Conn, until string) (string, error) {
	var answer strings.Builder
	part := make([]byte, 2048)
	for {
		length, err := connection.Read(part)
		answer.Write(part[:length])
		if err == nil && !strings.Contains(answer.String(), until) {
			continue
		}
		if answer.Len() > 0 {
			err = nil
		}
		return firstLine(answer.String()), err
	}
}

func overUDP(step Step) (string, error) {
	connection, err := net.Dial("udp4", step.To)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	return untilAnswered(connection, func() (string, error) {
		if _, err := io.WriteString(connection, step.Text); err != nil {
			return "", err
		}
		return read(connection, "")
	})
}

// untilAnswered sends a packet, and sends it again while nothing comes.
func untilAnswered(socket interface{ SetDeadline(time.Time) error }, send func() (string, error)) (string, error) {
	for end := time.Now().Add(patience); ; {
		if err := socket.SetDeadline(time.Now().Add(again)); err != nil {
			return "", err
		}
		answer, err := send()
		if err == nil || !isTimeout(err) || time.Now().After(end) {
			return answer, err
		}
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return strings.TrimSpace(line)
}
