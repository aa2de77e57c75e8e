package identity

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"hearth.dev/agent/internal/smallfile"
)

// renewBootID makes the kernel show another boot id, which programs take for the name of this life of the guest. The
// file is written in place, without being emptied first: it may be mounted already, and be read right now.
func (g Guest) renewBootID() error {
	return g.showBootID(newUUID() + "\n")
}

// lendBootID shows the kernel's own by way of that file. A guest that is restored later has only to write it then,
// where a mount would take longer than all the rest.
func (g Guest) lendBootID() error {
	if _, err := os.Stat(g.bootIDFile()); err == nil {
		return g.Kernel.ShowBootID(g.bootIDFile())
	}
	text, err := g.Kernel.BootID()
	if err != nil {
		return err
	}
	return g.showBootID(text)
}

func (g Guest) bootIDFile() string { return filepath.Join(g.Root, "run/hearth/boot_id") }

func (g Guest) showBootID(text string) error {
	path := g.bootIDFile()
	err := smallfile.Set(path, text)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		err = smallfile.Put(path, text, 0o444)
	}
	if err != nil {
		return err
	}
	return g.Kernel.ShowBootID(path)
}

// newUUID is a random one (RFC 9562, version 4).
func newUUID() string {
	id := randomID()
	digits := hex.EncodeToString(id[:])
	return digits[:8] + "-" + digits[8:12] + "-" + digits[12:16] + "-" + digits[16:20] + "-" + digits[20:]
}

func randomID() (id [16]byte) {
	rand.Read(id[:]) // Never fails: it ends the program instead.
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}
