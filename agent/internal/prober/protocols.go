package prober

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/miekg/dns"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// ping sends an echo request, and waits for its answer, or for an error about it.
func ping(step Step) (string, error) {
	connection, err := icmp.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return "", err
	}
	defer connection.Close()
	body := &icmp.Echo{ID: step.FromPort, Seq: 1, Data: []byte(step.Text)}
	request, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: body}).Marshal(nil)
	if err != nil {
		return "", err
	}
	address := &net.IPAddr{IP: net.ParseIP(step.To)}
	return untilAnswered(connection, func() (string, error) {
		if _, err := connection.WriteTo(request, address); err != nil {
			return "", err
		}
		return pong(connection, []byte(step.Text))
	})
}

// pong returns the answer to a request with this text.
func pong(connection *icmp.PacketConn, text []byte) (string, error) {
	answer := make([]byte, 2048)
	for {
		length, from, err := connection.ReadFrom(answer)
		if err != nil {
			return "", err
		}
		// Both an echo and an error have the text of the request.
		if !bytes.Contains(answer[:length], text) {
			continue
		}
		message, err := icmp.ParseMessage(ipv4.ICMPTypeEcho.Protocol(), answer[:length])
		if err != nil {
			return "", err
		}
		switch message.Type {
		case ipv4.ICMPTypeEchoReply:
			return from.String(), nil
		case ipv4.ICMPTypeDestinationUnreachable:
			return "", fmt.Errorf("code %d: %w", message.Code, errOutcome("rejected"))
		case ipv4.ICMPTypeTimeExceeded:
			return "", errOutcome("expired")
		}
	}
}

// ask sends a query over UDP, or over TCP if Type ends in /tcp.
func ask(step Step) (string, error) {
	kind, over := step.Type, "udp4"
	if base, found := bytes.CutSuffix([]byte(kind), []byte("/tcp")); found {
		kind, over = string(base), "tcp4"
	}
	query := new(dns.Msg)
	query.SetQuestion(dns.Fqdn(step.Name), dns.StringToType[kind])
	client := dns.Client{Net: over, Timeout: patience}
	if over == "tcp4" {
		client.Dialer = &net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{Port: step.FromPort}}
	}
	answer, _, err := client.Exchange(query, step.To)
	if err != nil {
		return "", err
	}
	switch {
	case answer.Rcode == dns.RcodeRefused:
		return "", errOutcome("refused")
	case answer.Rcode != dns.RcodeSuccess:
		return "", errors.New(dns.RcodeToString[answer.Rcode])
	case len(answer.Answer) == 0:
		return "", errOutcome("empty")
	}
	return answer.Answer[0].String(), nil
}

// shakeHands makes a TLS handshake, and returns the name of the peer's certificate.
func shakeHands(step Step) (string, error) {
	connection, err := dial(step)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	name := ""
	config := &tls.Config{
		ServerName:         step.Name,
		InsecureSkipVerify: true, // Of the certificate only the name is checked: no authority signed it.
		VerifyConnection: func(state tls.ConnectionState) error {
			name = state.PeerCertificates[0].Subject.CommonName
			if step.Verify && state.PeerCertificates[0].VerifyHostname(step.Name) != nil {
				return errOutcome("untrusted")
			}
			return nil
		},
	}
	if step.Hidden != "" {
		config.EncryptedClientHelloConfigList, err = hiddenBehind(step.Hidden)
		if err != nil {
			return "", err
		}
	}
	if err := tls.Client(connection, config).Handshake(); err != nil {
		return "", err
	}
	return name, nil
}

// hiddenBehind returns a list of one ECHConfig (RFC 9849) with a key that nobody has, and this public name.
func hiddenBehind(name string) ([]byte, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	public := key.PublicKey().Bytes()
	contents := []byte{1}                                    // An id.
	contents = binary.BigEndian.AppendUint16(contents, 0x20) // DHKEM(X25519, HKDF-SHA256).
	contents = binary.BigEndian.AppendUint16(contents, uint16(len(public)))
	contents = append(contents, public...)
	contents = append(contents, 0, 4, 0, 1, 0, 1) // HKDF-SHA256 with AES-128-GCM.
	contents = append(contents, 32, byte(len(name)))
	contents = append(contents, name...)
	contents = append(contents, 0, 0) // No extensions.
	config := binary.BigEndian.AppendUint16([]byte{0xfe, 0x0d}, uint16(len(contents)))
	config = append(config, contents...)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(config))), config...), nil
}
