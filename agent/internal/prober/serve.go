package prober

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"time"
)

// Serve answers at endpoints such as udp:192.0.2.1:7 and tcp:192.0.2.1:853, with what they receive, and at
// tls:192.0.2.1:443:NAME with a certificate for that name. Writes a line to out when it listens, and never returns
// without an error.
func Serve(endpoints []string, out io.Writer) error {
	failed := make(chan error)
	for _, endpoint := range endpoints {
		parts := strings.Split(endpoint, ":")
		if len(parts) < 3 {
			return fmt.Errorf("%q is no endpoint", endpoint)
		}
		serve, err := listen(parts[0], net.JoinHostPort(parts[1], parts[2]), strings.Join(parts[3:], ":"))
		if err != nil {
			return fmt.Errorf("%s: %w", endpoint, err)
		}
		go func() { failed <- serve() }()
	}
	if _, err := fmt.Fprintln(out, "listening"); err != nil {
		return err
	}
	return <-failed
}

func listen(protocol, address, name string) (func() error, error) {
	switch protocol {
	case "udp":
		socket, err := net.ListenPacket("udp4", address)
		return func() error { return echoPackets(socket) }, err
	case "tcp":
		listener, err := net.Listen("tcp4", address)
		return func() error { return echoStreams(listener) }, err
	case "tls":
		certificate, err := certificateFor(name)
		if err != nil {
			return nil, err
		}
		config := &tls.Config{Certificates: []tls.Certificate{certificate}}
		listener, err := tls.Listen("tcp4", address, config)
		return func() error { return echoStreams(listener) }, err
	}
	return nil, fmt.Errorf("%q is no protocol", protocol)
}

func echoPackets(socket net.PacketConn) error {
	packet := make([]byte, 65536)
	for {
		length, from, err := socket.ReadFrom(packet)
		if err != nil {
			return err
		}
		if _, err := socket.WriteTo(packet[:length], from); err != nil {
			return err
		}
	}
}

func echoStreams(listener net.Listener) error {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			// Clients reset their connections, and refuse certificates.
			_, _ = io.Copy(connection, connection)
			_ = connection.Close()
		}()
	}
}

func certificateFor(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{signed}, PrivateKey: key}, errors.Join(err)
}
