// Package hostkeys renews the SSH host keys of a guest: two guests that were restored from one snapshot must not be
// able to pass for each other.
package hostkeys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

const rsaBits = 3072

// quick are the kinds of keys that are made while the guest waits, by the names of OpenSSH's files.
var quick = map[string]func() (crypto.Signer, error){
	"ed25519": func() (crypto.Signer, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	},
	"ecdsa": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
}

// Keys are the host keys in a directory. Missing kinds are not made, and unknown kinds stay.
type Keys struct {
	dir    string
	reload func() // Makes sshd read the keys.
	log    *log.Logger
	rsa    func() (crypto.Signer, error)

	mu     sync.Mutex
	life   int  // The number of calls of Renew.
	making bool // An RSA key, in the background.
}

// New returns the keys of this guest's sshd.
func New(logger *log.Logger) *Keys {
	return &Keys{
		dir:    "/etc/ssh",
		reload: func() { reloadListeners("/proc") },
		log:    logger,
		rsa:    func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, rsaBits) },
	}
}

// Renew replaces every key. Making an RSA key takes seconds on an emulated CPU, so the old one is removed at once and
// the new one follows later.
func (k *Keys) Renew(comment string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.life++
	var failures []error
	renewed := false
	for kind, generate := range quick {
		if !exists(k.path(kind)) {
			continue
		}
		key, err := generate()
		if err == nil {
			err = writePair(k.path(kind), unfinished(k.path(kind)), key, comment)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", kind, err))
			continue
		}
		renewed = true
	}
	if path := k.path("rsa"); exists(path) || exists(unfinished(path)) {
		if err := k.renewRSA(path, comment); err != nil {
			failures = append(failures, fmt.Errorf("rsa: %w", err))
		}
	}
	if renewed {
		k.reload() // Not for a removed RSA key: sshd does not start again without any key.
	}
	return errors.Join(failures...)
}

// Resume makes the RSA key that an earlier agent has removed and not replaced.
func (k *Keys) Resume(comment string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if exists(unfinished(k.path("rsa"))) {
		k.makeRSA(comment)
	}
}

// renewRSA leaves the file of the unfinished key behind, which tells the next agent that the key is missing.
func (k *Keys) renewRSA(path, comment string) error {
	if err := os.WriteFile(unfinished(path), nil, 0o600); err != nil {
		return err
	}
	for _, old := range []string{path, path + ".pub"} {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	k.makeRSA(comment)
	return nil
}

func (k *Keys) makeRSA(comment string) {
	if k.making {
		return
	}
	k.making = true
	go func() {
		for !k.finishRSA(comment) {
		}
	}()
}

// finishRSA drops a key that was begun before the last Renew: the guest's copies have begun the same one.
func (k *Keys) finishRSA(comment string) (done bool) {
	k.mu.Lock()
	life := k.life
	k.mu.Unlock()
	key, err := k.rsa()
	k.mu.Lock()
	defer k.mu.Unlock()
	if life != k.life {
		return false
	}
	k.making = false
	if err == nil {
		err = writePair(k.path("rsa"), unfinished(k.path("rsa")), key, comment)
	}
	if err != nil {
		k.log.Printf("the RSA host key could not be made: %v", err)
		return true
	}
	k.reload()
	return true
}

func (k *Keys) path(kind string) string { return filepath.Join(k.dir, "ssh_host_"+kind+"_key") }

func unfinished(path string) string { return path + ".hearth" }

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// writePair replaces the private key before the public one, which sshd does not need.
func writePair(path, scratch string, key crypto.Signer, comment string) error {
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return err
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return err
	}
	line := strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(public)), "\n") + " " + comment + "\n"
	if err := replace(path, scratch, pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	return replace(path+".pub", path+".pub.hearth", []byte(line), 0o644)
}

func replace(path, scratch string, text []byte, mode fs.FileMode) error {
	if err := os.WriteFile(scratch, text, mode); err != nil {
		return err
	}
	return os.Rename(scratch, path)
}
