package resolver

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// recorder is a learner that remembers what it was told.
type recorder struct {
	domains   []Domain
	addresses []string
	ttl       uint32
	fails     bool
}

func (r *recorder) Learn(_ context.Context, domains []Domain, addresses []netip.Addr, ttl uint32) error {
	if r.fails {
		return errors.New("no room")
	}
	r.domains, r.ttl = domains, ttl
	for _, address := range addresses {
		r.addresses = append(r.addresses, address.String())
	}
	return nil
}

func configured(learner Learner, upstream netip.AddrPort, refuse bool) *Parser {
	parser := NewParser(learner, nil)
	parser.Configure(Config{
		Upstream: upstream, RefuseOthers: refuse,
		Rules: []Rule{{Domain: "*.example", Set: "names0"}, {Domain: "one.test", Set: "names1"}},
		Never: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	})
	return parser
}

func query(name string, kind uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(name, kind)
}

func answersOf(reply *dns.Msg) []string {
	var texts []string
	for _, record := range reply.Answer {
		texts = append(texts, strings.ReplaceAll(record.String(), "\t", " "))
	}
	return texts
}

func TestAnAllowedNameIsAnsweredWithAddressesThatAreReachableBefore(t *testing.T) {
	learner := &recorder{}
	asked := upstream(t, records(t, "Web.Example. 600 IN CNAME cdn.test.", "cdn.test. 60 IN A 198.51.100.7",
		"cdn.test. 90 IN A 10.1.2.3", "other.test. 60 IN A 198.51.100.8"))
	reply := configured(learner, asked, true).answer(t.Context(), query("wEb.example.", dns.TypeA))
	want := []string{"Web.Example. 60 IN CNAME cdn.test.", "cdn.test. 60 IN A 198.51.100.7"}
	if got := answersOf(reply); !slices.Equal(got, want) || reply.Rcode != dns.RcodeSuccess {
		t.Errorf("answered %q, %d", got, reply.Rcode)
	}
	if !slices.Equal(learner.addresses, []string{"198.51.100.7"}) || learner.ttl != 60 {
		t.Errorf("learned %v for %d s", learner.addresses, learner.ttl)
	}
	if !slices.Equal(learner.domains, []Domain{"*.example"}) {
		t.Errorf("learned for %v", learner.domains)
	}
}

func TestOtherNamesAreRefusedOrAnsweredAndNeverLearned(t *testing.T) {
	for _, name := range []string{"other.test.", "example.", "badexample.", "a.one.test.", "."} {
		for _, refuse := range []bool{true, false} {
			learner := &recorder{}
			asked := upstream(t, records(t, name+" 60 IN A 198.51.100.7"))
			reply := configured(learner, asked, refuse).answer(t.Context(), query(name, dns.TypeA))
			if (reply.Rcode == dns.RcodeRefused) != refuse || (len(reply.Answer) == 0) != refuse {
				t.Errorf("%s, refuse %v: %v", name, refuse, reply)
			}
			if learner.addresses != nil {
				t.Errorf("%s: learned %v", name, learner.addresses)
			}
		}
	}
}

func TestTypesWithOtherAddressesHaveEmptyAnswersAndTextsAreAsTheyWere(t *testing.T) {
	asked := upstream(t, records(t, "a.example. 60 IN AAAA 2001:db8::1", "a.example. 60 IN TXT hello",
		"a.example. 60 IN HTTPS 1 . ipv4hint=198.51.100.7"))
	parser := configured(&recorder{}, asked, true)
	for _, kind := range []uint16{dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeANY, dns.TypeAXFR, dns.TypeNULL} {
		if reply := parser.answer(t.Context(), query("a.example.", kind)); len(reply.Answer) != 0 || reply.Rcode != 0 {
			t.Errorf("%d: %v", kind, reply)
		}
	}
	if reply := parser.answer(t.Context(), query("a.example.", dns.TypeTXT)); len(reply.Answer) != 1 {
		t.Errorf("TXT: %v", reply)
	}
}

func TestAnAnswerWhoseAddressesCannotBeReachedIsAFailure(t *testing.T) {
	asked := upstream(t, records(t, "a.example. 60 IN A 198.51.100.7"))
	reply := configured(&recorder{fails: true}, asked, true).answer(t.Context(), query("a.example.", dns.TypeA))
	if reply.Rcode != dns.RcodeServerFailure || len(reply.Answer) != 0 {
		t.Errorf("%v", reply)
	}
}

func TestALongAnswerComesByTCP(t *testing.T) {
	long := records(t, "a.example. 60 IN TXT "+strings.Repeat("x", 200))
	asked := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if w.RemoteAddr().Network() == "tcp" {
			long(w, q)
			return
		}
		reply := new(dns.Msg).SetReply(q)
		reply.Truncated = true
		_ = w.WriteMsg(reply)
	})
	reply := configured(&recorder{}, asked, true).answer(t.Context(), query("a.example.", dns.TypeTXT))
	if len(reply.Answer) != 1 {
		t.Errorf("%v", reply)
	}
}

func TestAQueryBeforeTheConfigurationAndQueriesThatAreNoneFail(t *testing.T) {
	if reply := NewParser(&recorder{}, nil).answer(t.Context(), query("a.example.", dns.TypeA)); reply.Rcode != dns.RcodeServerFailure {
		t.Errorf("%v", reply)
	}
	parser := configured(&recorder{}, netip.MustParseAddrPort("127.0.0.1:1"), true)
	two := query("a.example.", dns.TypeA)
	two.Question = append(two.Question, two.Question[0])
	none := query("a.example.", dns.TypeA)
	none.Question = nil
	notify := query("a.example.", dns.TypeA)
	notify.Opcode = dns.OpcodeNotify
	chaos := query("a.example.", dns.TypeA)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	for _, bad := range []*dns.Msg{two, none, notify, chaos} {
		if reply := parser.answer(t.Context(), bad); reply.Rcode != dns.RcodeFormatError && reply.Rcode != dns.RcodeNotImplemented {
			t.Errorf("%v: %v", bad, reply)
		}
	}
}

var private = netip.MustParsePrefix("10.0.0.0/8")

// seeds are a query and an answer, as they are on the wire.
func seeds(tb testing.TB) (asked, answered []byte) {
	tb.Helper()
	reply := new(dns.Msg).SetReply(query("a.example.", dns.TypeA))
	for _, text := range []string{
		"a.example. 60 IN CNAME a.example.", "a.example. 60 IN A 198.51.100.7", "a.example. 1 IN A 10.0.0.1",
	} {
		record, err := dns.NewRR(text)
		if err != nil {
			tb.Fatal(err)
		}
		reply.Answer = append(reply.Answer, record)
	}
	asked, err := query("a.example.", dns.TypeA).Pack()
	if err != nil {
		tb.Fatal(err)
	}
	if answered, err = reply.Pack(); err != nil {
		tb.Fatal(err)
	}
	return asked, answered
}

// readQuery sends what a guest may write through a parser whose upstream does not answer.
func readQuery(t *testing.T, packet []byte) {
	message := new(dns.Msg)
	if message.Unpack(packet) != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	parser := configured(&recorder{}, netip.MustParseAddrPort("127.0.0.1:1"), true)
	if reply := parser.answer(ctx, message); len(reply.Answer) != 0 {
		t.Errorf("%v", reply)
	}
}

// readAnswer reads what an upstream may answer.
func readAnswer(t *testing.T, packet []byte) {
	message := new(dns.Msg)
	if message.Unpack(packet) != nil {
		return
	}
	question := dns.Question{Name: "a.example.", Qtype: dns.TypeA}
	records, addresses, ttl := chain(message, question, func(address netip.Addr) bool { return !private.Contains(address) })
	if ttl > ttlMax || len(addresses) > addressesMax || slices.ContainsFunc(addresses, private.Contains) {
		t.Errorf("%v %v %d", records, addresses, ttl)
	}
}

// damaged returns variants of a packet, always the same.
func damaged(packet []byte, count int) iter.Seq[[]byte] {
	random := rand.New(rand.NewPCG(1, 2))
	return func(yield func([]byte) bool) {
		for range count {
			variant := slices.Clone(packet)
			for range 1 + random.IntN(4) {
				variant[random.IntN(len(variant))] = byte(random.UintN(256))
			}
			if !yield(variant[:len(variant)-random.IntN(3)]) {
				return
			}
		}
	}
}

func TestAHundredThousandDamagedMessagesOfEachKindAreReadWithoutAPanic(t *testing.T) {
	asked, answered := seeds(t)
	for packet := range damaged(asked, 100_000) {
		readQuery(t, packet)
	}
	for packet := range damaged(answered, 100_000) {
		readAnswer(t, packet)
	}
}

func FuzzQuery(f *testing.F) {
	asked, _ := seeds(f)
	f.Add(asked)
	f.Fuzz(readQuery)
}

func FuzzAnswer(f *testing.F) {
	_, answered := seeds(f)
	f.Add(answered)
	f.Fuzz(readAnswer)
}
