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

// renewBootID makes the kernel show a new boot id, by which programs recognize a reboot. The file is written in place,
// without truncating it first: it may be mounted already, and a program may be reading it.
func (g Guest) renewBootID() error {
	return g.showBootID(newUUID() + "\n")
}

// prepareBootID shows the kernel's own boot id through that file. If the guest is restored later, the file only has to
// be written. A mount would take longer than all other steps then.
func (g Guest) prepareBootID() error {
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

// newUUID returns a random UUID (RFC 9562, version 4).
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
