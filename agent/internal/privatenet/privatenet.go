// Package privatenet keeps the private networks of VMs: which VMs are on one, with their names and addresses.
//
// Each network is a file, which root writes under the lock of the host's networks, and the resolvers of the VMs on it
// read through a descriptor that they were started with. It is rewritten in place, and a reader that sees half of a
// write reads again.
package privatenet

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"
)

const (
	// filePrefix is followed by the number of the host's network namespace, and by that of the network on the host.
	filePrefix = ".net-"
	// fileMaxBytes is more than the names of all addresses of a network take.
	fileMaxBytes = 1 << 17
	readTries    = 20
	readAgain    = time.Millisecond
)

// Network is a private network.
type Network struct {
	// Key tells networks of one name apart: each hearthd has its own.
	Key     string   `json:"key"`
	Members []Member `json:"members"`
}

// Member is a VM on a network.
type Member struct {
	// Link is the host's end of its network.
	Link    string     `json:"link"`
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
}

// Has says whether a VM is on the network.
func (n Network) Has(link string) bool {
	for _, member := range n.Members {
		if member.Link == link {
			return true
		}
	}
	return false
}

// Pattern returns the pattern of the files of all networks in a directory, for one namespace of a host or for all.
func Pattern(dir string, namespace *uint64) string {
	if namespace == nil {
		return dir + "/" + filePrefix + "*-*"
	}
	return fmt.Sprintf("%s/%s%d-*", dir, filePrefix, *namespace)
}

// Path returns the file of a network.
func Path(dir string, namespace uint64, number int) string {
	return fmt.Sprintf("%s/%s%d-%d", dir, filePrefix, namespace, number)
}

// Write replaces the content of the file.
func Write(file *os.File, network Network) error {
	text, err := json.Marshal(network)
	if err != nil {
		return err
	}
	content := fmt.Appendf(nil, "%x\n%s", sha256.Sum256(text), text)
	if len(content) > fileMaxBytes {
		return errors.New("the network has too many VMs")
	}
	if _, err := file.WriteAt(content, 0); err != nil {
		return err
	}
	return file.Truncate(int64(len(content)))
}

var errTorn = errors.New("the file of the network is damaged")

// Read returns the content of the file.
func Read(file io.ReaderAt) (Network, error) {
	content := make([]byte, fileMaxBytes)
	for range readTries {
		size, err := file.ReadAt(content, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return Network{}, err
		}
		if network, err := parse(content[:size]); err == nil {
			return network, nil
		}
		time.Sleep(readAgain)
	}
	return Network{}, errTorn
}

func parse(content []byte) (Network, error) {
	const digits = 2 * sha256.Size
	if len(content) <= digits || content[digits] != '\n' {
		return Network{}, errTorn
	}
	text := content[digits+1:]
	if fmt.Sprintf("%x", sha256.Sum256(text)) != string(content[:digits]) {
		return Network{}, errTorn
	}
	var network Network
	err := json.Unmarshal(text, &network)
	return network, err
}
