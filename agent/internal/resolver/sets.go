package resolver

import (
	"errors"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Sets are the nftables sets of the VM's policy.
type Sets interface {
	// Allow puts an address into a set of its family for some time, also if it is there.
	Allow(set string, address netip.Addr, keep time.Duration) error
}

// table is that of src/helper/policy-program.ts.
var table = &nftables.Table{Name: "hearth", Family: nftables.TableFamilyINet}

type kernelSets struct{ conn *nftables.Conn }

// NewSets returns the sets of this process's network namespace. Changing them takes CAP_NET_ADMIN.
func NewSets() (Sets, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, err
	}
	return &kernelSets{conn: conn}, nil
}

func (k *kernelSets) Allow(name string, address netip.Addr, keep time.Duration) error {
	set := &nftables.Set{Table: table, Name: name, KeyType: nftables.TypeIPAddr, HasTimeout: true}
	if address.Is6() {
		set.KeyType = nftables.TypeIP6Addr
	}
	key := address.AsSlice()
	element := []nftables.SetElement{{Key: key, Timeout: keep}}
	// An element that is there keeps its end; in one transaction it is replaced.
	if err := k.conn.SetDeleteElements(set, []nftables.SetElement{{Key: key}}); err != nil {
		return err
	}
	if err := k.conn.SetAddElements(set, element); err != nil {
		return err
	}
	err := k.conn.Flush()
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := k.conn.SetAddElements(set, element); err != nil {
		return err
	}
	return k.conn.Flush()
}
