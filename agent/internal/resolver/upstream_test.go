package resolver

import (
	"net"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// upstream serves records on a port of the loopback, over UDP and TCP, as a resolver of a host would.
func upstream(t *testing.T, handler dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddrPort(listener.Addr().String())
	packets, err := net.ListenPacket("udp4", address.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{
		{Listener: listener, Handler: handler}, {PacketConn: packets, Handler: handler},
	} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		ended := make(chan error, 1)
		go func() { ended <- server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := server.Shutdown(); err != nil {
				t.Error(err)
			}
			<-ended
		})
	}
	return address
}

// records returns a handler that answers every query with these.
func records(t *testing.T, texts ...string) dns.HandlerFunc {
	t.Helper()
	parsed := make([]dns.RR, len(texts))
	for index, text := range texts {
		record, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		parsed[index] = record
	}
	return func(w dns.ResponseWriter, query *dns.Msg) {
		reply := new(dns.Msg)
		reply.SetReply(query)
		for _, record := range parsed {
			reply.Answer = append(reply.Answer, dns.Copy(record))
		}
		_ = w.WriteMsg(reply)
	}
}
