package resolver

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeSets remembers what is allowed.
type fakeSets struct {
	allowed map[string][]string
	fails   bool
}

func (s *fakeSets) Allow(set string, address netip.Addr, _ time.Duration) error {
	if s.fails {
		return errors.New("the kernel refuses")
	}
	s.allowed[set] = append(s.allowed[set], address.String())
	return nil
}

// running is a guard between a helper and a parser of the test.
type running struct {
	sets   *fakeSets
	socket string
	parser *lines
	ended  chan error
}

func startGuard(t *testing.T) *running {
	t.Helper()
	ofGuard, ofParser := net.Pipe()
	r := &running{
		sets:   &fakeSets{allowed: map[string][]string{}},
		socket: filepath.Join(t.TempDir(), "control"),
		parser: newLines(ofParser),
		ended:  make(chan error, 1),
	}
	control, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		control.Close()
		ofParser.Close()
		<-r.ended
	})
	go func() {
		r.ended <- NewGuard(r.sets, neighbours{}, ofGuard).Serve(control)
		close(r.ended)
	}()
	return r
}

// ask asks the guard one thing, as the helper does.
func (r *running) ask(t *testing.T, line string) response {
	t.Helper()
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(line + "\n")); err != nil {
		t.Fatal(err)
	}
	var answer response
	if err := json.NewDecoder(conn).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// configure configures the guard, and the parser of the test.
func (r *running) configure(t *testing.T, rules string) {
	t.Helper()
	r.configureWith(t, `"never":["10.0.0.0/8"],"rules":`+rules)
}

func (r *running) configureWith(t *testing.T, fields string) {
	t.Helper()
	taken := make(chan error, 1)
	go func() {
		var message toParser
		err := r.parser.read(&message)
		if err == nil {
			err = r.parser.write(toGuard{Configured: true})
		}
		taken <- err
	}()
	answer := r.ask(t, `{"op":"configure","config":{"upstream":"192.0.2.53:53",`+fields+`}}`)
	if answer.Error != "" {
		t.Fatal(answer.Error)
	}
	if err := <-taken; err != nil {
		t.Fatal(err)
	}
}

func (r *running) learn(t *testing.T, domain Domain, address string) bool {
	t.Helper()
	wanted := &learn{ID: 7, Domains: []Domain{domain}, Addresses: []netip.Addr{netip.MustParseAddr(address)}, TTL: 60}
	if err := r.parser.write(toGuard{Learn: wanted}); err != nil {
		t.Fatal(err)
	}
	var message toParser
	if err := r.parser.read(&message); err != nil {
		t.Fatal(err)
	}
	return message.Learned.ID == 7 && message.Learned.OK
}

const oneRule = `[{"domain":"*.example","set":"names0"}]`

func TestTheGuardAllowsAddressesOfDomainsThatThePolicyHasAndNoOthers(t *testing.T) {
	r := startGuard(t)
	r.configure(t, oneRule)
	if !r.learn(t, "*.example", "198.51.100.7") {
		t.Error("the address is refused")
	}
	for domain, address := range map[Domain]string{
		"other.test": "198.51.100.8", "*.example": "10.0.0.1", "*": "198.51.100.8",
	} {
		if r.learn(t, domain, address) {
			t.Errorf("%s %s is allowed", domain, address)
		}
	}
	if r.learn(t, "*.example", "2001:db8::1") {
		t.Error("an IPv6 address is allowed, although the guest has no IPv6")
	}
	if got := r.sets.allowed["names0"]; len(got) != 1 || len(r.sets.allowed) != 1 {
		t.Errorf("allowed %v", r.sets.allowed)
	}
}

func TestWhatWasLearnedIsInTheSetsOfTheNextPolicyAsLongAsItHasTheDomain(t *testing.T) {
	r := startGuard(t)
	r.configure(t, oneRule)
	r.learn(t, "*.example", "198.51.100.7")
	learned := r.ask(t, `{"op":"learned"}`).Learned
	if len(learned) != 1 || learned[0].Domain != "*.example" || learned[0].Seconds < 300 {
		t.Fatalf("%v", learned)
	}
	r.configure(t, `[{"domain":"one.test","set":"names0"},{"domain":"*.example","set":"names1"}]`)
	if got := r.sets.allowed["names1"]; len(got) != 1 {
		t.Errorf("allowed %v", r.sets.allowed)
	}
	r.configure(t, `[]`)
	if learned := r.ask(t, `{"op":"learned"}`).Learned; len(learned) != 0 {
		t.Errorf("%v", learned)
	}
}

func TestAnAddressThatTheKernelRefusesIsNotRemembered(t *testing.T) {
	r := startGuard(t)
	r.configure(t, oneRule)
	r.sets.fails = true
	if r.learn(t, "*.example", "198.51.100.7") {
		t.Error("it was told to be allowed")
	}
	r.sets.fails = false
	if !r.learn(t, "*.example", "198.51.100.7") || len(r.sets.allowed["names0"]) != 1 {
		t.Errorf("allowed %v", r.sets.allowed)
	}
}

func TestADomainHasALimitOfAddresses(t *testing.T) {
	known := memory{}
	now := time.Now()
	for index := range learnedMax {
		address := netip.AddrFrom4([4]byte{198, 51, byte(index >> 8), byte(index)})
		if err := known.put("*.example", address, now.Add(time.Minute), now); err != nil {
			t.Fatal(err)
		}
	}
	more := netip.MustParseAddr("203.0.113.1")
	if err := known.put("*.example", more, now.Add(time.Minute), now); !errors.Is(err, errTooMany) {
		t.Errorf("%v", err)
	}
	if err := known.put("*.example", more, now.Add(time.Hour), now.Add(2*time.Minute)); err != nil {
		t.Errorf("after the others have ended: %v", err)
	}
}

func TestAHelperThatLiesOrSaysNothingChangesNothing(t *testing.T) {
	r := startGuard(t)
	silent, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	silent.Close()
	for _, line := range []string{
		`{"op":"format"}`, `{"op":"configure"}`,
		`{"op":"configure","config":{"upstream":"192.0.2.53:0","rules":[]}}`,
		`{"op":"configure","config":{"upstream":"192.0.2.53:53","rules":[{"domain":"a","set":"x; drop"}]}}`,
	} {
		if r.ask(t, line).Error == "" {
			t.Errorf("%s is taken", line)
		}
	}
}

func TestTheGuardEndsWithItsParserAndWhenTheHelperSaysSo(t *testing.T) {
	r := startGuard(t)
	if answer := r.ask(t, `{"op":"end"}`); answer.Error != "" {
		t.Error(answer.Error)
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

func TestAMessageWithoutAnEndIsRefused(t *testing.T) {
	ofGuard, ofParser := net.Pipe()
	control, err := net.Listen("unix", filepath.Join(t.TempDir(), "control"))
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	ended := make(chan error, 1)
	go func() {
		err := NewGuard(&fakeSets{allowed: map[string][]string{}}, neighbours{}, ofGuard).Serve(control)
		ofGuard.Close()
		ended <- err
	}()
	_, _ = ofParser.Write([]byte(strings.Repeat("x", MessageMaxBytes+1)))
	if err := <-ended; err == nil {
		t.Error("it was taken")
	}
}
