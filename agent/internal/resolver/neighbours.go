package resolver

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"

	"hearth.dev/agent/internal/privatenet"
)

// zone is where VMs find those with which they share a private network: db.hearth.
const zone = "hearth"

// neighbourTTL is how long a guest keeps the address of a VM, in seconds: it changes with each start.
const neighbourTTL = 5

// neighbourKeep is how long a rule for a VM allows its address after an answer: another VM may have it then.
const neighbourKeep = time.Minute

// isNeighbour tells whether a domain is the name of a VM.
func (d Domain) isNeighbour() bool { return strings.HasSuffix(string(d), "."+zone) }

// neighbourOf returns the name of a VM in a query.
func neighbourOf(name string) (string, bool) {
	if name == zone {
		return "", true
	}
	return strings.CutSuffix(name, "."+zone)
}

// answerNeighbour answers a question about a VM, whose address rules for it allow then.
func (p *Parser) answerNeighbour(ctx context.Context, reply *dns.Msg, question dns.Question, name string) error {
	found, err := p.finder.Find(ctx, name)
	if err != nil {
		return err
	}
	if found.Failed {
		return errors.New("the private networks cannot be read")
	}
	if !found.OK {
		reply.Rcode = dns.RcodeNameError
		return nil
	}
	if question.Qtype != dns.TypeA {
		return nil
	}
	if domains := p.config.Load().domainsOf(normal(question.Name)); len(domains) > 0 {
		if err := p.learner.Learn(ctx, domains, found.Addresses, neighbourTTL); err != nil {
			return err
		}
	}
	for _, address := range found.Addresses {
		reply.Answer = append(reply.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: neighbourTTL},
			A:   address.AsSlice(),
		})
	}
	return nil
}

// neighbours are the private networks of one VM.
type neighbours struct {
	link  string
	files []*os.File
}

// find looks a VM up, also this one itself, which has the given address.
func (n neighbours) find(name string, own netip.Addr) (found, error) {
	result := found{}
	for _, file := range n.files {
		network, err := privatenet.Read(file)
		if err != nil {
			return found{}, err
		}
		for _, member := range network.Members {
			if member.Name != name {
				continue
			}
			result.OK = true
			if member.Link == n.link {
				result.Addresses = []netip.Addr{own}
				return result, nil
			}
			result.Addresses = append(result.Addresses, member.Address)
		}
	}
	return result, nil
}

// openNetworks opens the private networks in a directory that a VM is on. They are root's.
func openNetworks(dir, link string) ([]*os.File, error) {
	paths, err := filepath.Glob(privatenet.Pattern(dir, nil))
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, path := range paths {
		file, err := os.Open(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		// Networks of other VMs may be gone in a moment.
		if network, err := privatenet.Read(file); err == nil && network.Has(link) {
			files = append(files, file)
			continue
		}
		file.Close()
	}
	return files, nil
}
