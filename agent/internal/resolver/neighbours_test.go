package resolver

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/miekg/dns"

	"hearth.dev/agent/internal/privatenet"
)

// directFinder asks neighbours as the guard does.
type directFinder struct{ neighbours }

func (d directFinder) Find(_ context.Context, name string) (found, error) {
	return d.find(name, netip.MustParseAddr("192.0.0.2"))
}

func writeNetwork(t *testing.T, path string, network privatenet.Network) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = errors.Join(privatenet.Write(file, network), file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAVMFindsThoseOnItsNetworksAndNoOthers(t *testing.T) {
	dir := t.TempDir()
	member := func(link, name, address string) privatenet.Member {
		return privatenet.Member{Link: link, Name: name, Address: netip.MustParseAddr(address)}
	}
	shared, web := privatenet.Path(dir, 1, 7), member("hvmweb", "web", "198.19.7.2")
	writeNetwork(t, shared, privatenet.Network{Key: "a", Members: []privatenet.Member{web, member("hvmdb", "db", "198.19.7.3")}})
	writeNetwork(t, privatenet.Path(dir, 1, 8), privatenet.Network{
		Key: "b", Members: []privatenet.Member{member("hvmother", "other", "198.19.8.2")},
	})
	files, err := openNetworks(dir, "hvmweb")
	if err != nil || len(files) != 1 || files[0].Name() != shared {
		t.Fatalf("got %v, %v", files, err)
	}
	parser := NewParser(&recorder{}, directFinder{neighbours{link: "hvmweb", files: files}})
	parser.Configure(Config{RefuseOthers: true})
	for _, one := range []struct {
		name    string
		kind    uint16
		code    int
		answers []string
	}{
		{"db.hearth.", dns.TypeA, dns.RcodeSuccess, []string{"db.hearth. 5 IN A 198.19.7.3"}},
		{"DB.Hearth.", dns.TypeA, dns.RcodeSuccess, []string{"DB.Hearth. 5 IN A 198.19.7.3"}},
		{"web.hearth.", dns.TypeA, dns.RcodeSuccess, []string{"web.hearth. 5 IN A 192.0.0.2"}},
		{"db.hearth.", dns.TypeAAAA, dns.RcodeSuccess, nil},
		{"other.hearth.", dns.TypeA, dns.RcodeNameError, nil},
		{"a.db.hearth.", dns.TypeA, dns.RcodeNameError, nil},
		{"hearth.", dns.TypeA, dns.RcodeNameError, nil},
		{"dbhearth.", dns.TypeA, dns.RcodeRefused, nil},
	} {
		reply := parser.answer(t.Context(), query(one.name, one.kind))
		if reply.Rcode != one.code || !slices.Equal(answersOf(reply), one.answers) {
			t.Errorf("%s %d: got %d, %v", one.name, one.kind, reply.Rcode, answersOf(reply))
		}
	}
	writeNetwork(t, shared, privatenet.Network{Key: "a", Members: []privatenet.Member{web}})
	if reply := parser.answer(t.Context(), query("db.hearth.", dns.TypeA)); reply.Rcode != dns.RcodeNameError {
		t.Errorf("a VM that has gone: got %d", reply.Rcode)
	}
	if err := os.Truncate(shared, 20); err != nil {
		t.Fatal(err)
	}
	if _, err := (directFinder{neighbours{files: files}}).Find(t.Context(), "web"); err == nil {
		t.Error("a damaged file has no names")
	}
	parser.Configure(Config{})
	if reply := parser.answer(t.Context(), query("web.example.", dns.TypeA)); reply.Rcode != dns.RcodeServerFailure {
		t.Errorf("without a resolver of the host: got %d", reply.Rcode)
	}
}

func TestARuleForAVMAllowsTheAddressThatItHasAndNoOther(t *testing.T) {
	dir := t.TempDir()
	writeNetwork(t, privatenet.Path(dir, 1, 7), privatenet.Network{Key: "a", Members: []privatenet.Member{
		{Link: "hvmweb", Name: "web", Address: netip.MustParseAddr("198.19.7.2")},
		{Link: "hvmdb", Name: "db", Address: netip.MustParseAddr("198.19.7.3")},
	}})
	files, err := openNetworks(dir, "hvmweb")
	if err != nil {
		t.Fatal(err)
	}
	learner := &recorder{}
	ruled := NewParser(learner, directFinder{neighbours{link: "hvmweb", files: files}})
	ruled.Configure(Config{Rules: []Rule{{Domain: "db.hearth", Set: "names0"}}})
	ruled.answer(t.Context(), query("db.hearth.", dns.TypeA))
	if !slices.Equal(learner.addresses, []string{"198.19.7.3"}) || !slices.Equal(learner.domains, []Domain{"db.hearth"}) {
		t.Errorf("learned %v of %v", learner.addresses, learner.domains)
	}
	guard := NewGuard(&fakeSets{allowed: map[string][]string{}}, neighbours{link: "hvmweb", files: files}, nil)
	for address, want := range map[string]bool{"198.19.7.3": true, "198.19.7.2": false, "198.51.100.7": false} {
		if got := guard.mayLearn("db.hearth", netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: got %t", address, got)
		}
	}
}

func TestNetworksThatAreRewrittenAreReadWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "network")
	large := privatenet.Network{Key: "a"}
	for at := range 200 {
		large.Members = append(large.Members, privatenet.Member{Link: "hvm", Name: "web", Address: netip.AddrFrom4([4]byte{198, 19, 7, byte(at)})})
	}
	small := privatenet.Network{Key: "a", Members: large.Members[:1]}
	writeNetwork(t, path, large)
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for at := range 500 {
			writeNetwork(t, path, []privatenet.Network{small, large}[at%2])
		}
	}()
	for {
		network, err := privatenet.Read(file)
		if err != nil || (len(network.Members) != 1 && len(network.Members) != 200) {
			t.Fatalf("got %d, %v", len(network.Members), err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
