package hostkeys

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"io"
	"log"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/crypto/ssh"
)

// newKeys makes host keys with the given files. Each reload sends a message.
func newKeys(t *testing.T, files ...string) (*Keys, chan bool) {
	t.Helper()
	reloads := make(chan bool, 10)
	k := &Keys{
		dir:    t.TempDir(),
		reload: func() { reloads <- true },
		log:    log.New(io.Discard, "", 0),
		rsa:    func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
	}
	for _, name := range files {
		if err := os.WriteFile(filepath.Join(k.dir, name), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k, reloads
}

func (k *Keys) read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(k.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// checkPair returns the private key's text.
func (k *Keys) checkPair(t *testing.T, name, kind string) []byte {
	t.Helper()
	text := k.read(t, name)
	private, err := ssh.ParsePrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	public, comment, _, _, err := ssh.ParseAuthorizedKey(k.read(t, name+".pub"))
	if err != nil {
		t.Fatal(err)
	}
	if public.Type() != kind || comment != "root@web-1" || !bytes.Equal(public.Marshal(), private.PublicKey().Marshal()) {
		t.Errorf("got %s %q", public.Type(), comment)
	}
	for name, want := range map[string]os.FileMode{name: 0o600, name + ".pub": 0o644} {
		if file, err := os.Stat(filepath.Join(k.dir, name)); err != nil || file.Mode() != want {
			t.Errorf("%s: got %v, %v", name, file.Mode(), err)
		}
	}
	return text
}

func TestEachRenewalMakesAnotherPairOfEachKindThatIsThere(t *testing.T) {
	k, reloads := newKeys(t, "ssh_host_ed25519_key", "ssh_host_ecdsa_key", "ssh_host_ecdsa_key.pub")
	var seen [][]byte
	for range 2 {
		if err := k.Renew("root@web-1"); err != nil {
			t.Fatal(err)
		}
		<-reloads
		for name, kind := range map[string]string{
			"ssh_host_ed25519_key": "ssh-ed25519", "ssh_host_ecdsa_key": "ecdsa-sha2-nistp256",
		} {
			key := k.checkPair(t, name, kind)
			if slices.ContainsFunc(seen, func(old []byte) bool { return bytes.Equal(old, key) }) {
				t.Errorf("%s was there before", name)
			}
			seen = append(seen, key)
		}
	}
	if entries, err := os.ReadDir(k.dir); err != nil || len(entries) != 4 {
		t.Errorf("got %v, %v", entries, err)
	}
}

func TestOtherFilesStayAndWithoutKeysSshdIsNotReloaded(t *testing.T) {
	names := []string{"ssh_host_dsa_key", "ssh_host_key", "sshd_config", "id_ed25519"}
	k, reloads := newKeys(t, names...)
	if err := k.Renew("root@web-1"); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if got := string(k.read(t, name)); got != "old" {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if entries, err := os.ReadDir(k.dir); err != nil || len(entries) != len(names) || len(reloads) != 0 {
		t.Errorf("got %v, %v, %d reloads", entries, err, len(reloads))
	}
}

func TestAnRSAKeyIsRemovedAtOnceAndANewOneFollows(t *testing.T) {
	k, reloads := newKeys(t, "ssh_host_rsa_key", "ssh_host_rsa_key.pub")
	generate, begin := k.rsa, make(chan bool)
	k.rsa = func() (crypto.Signer, error) {
		<-begin
		return generate()
	}
	if err := k.Renew("root@web-1"); err != nil {
		t.Fatal(err)
	}
	if exists(k.path("rsa")) || exists(k.path("rsa")+".pub") || len(reloads) != 0 {
		t.Error("the old key is still there")
	}
	begin <- true
	<-reloads
	k.checkPair(t, "ssh_host_rsa_key", "ssh-rsa")
}

func TestAnRSAKeyThatWasBegunBeforeARestoreIsDropped(t *testing.T) {
	k, reloads := newKeys(t, "ssh_host_rsa_key")
	generate, begun, end := k.rsa, make(chan bool), make(chan bool)
	var made []crypto.Signer
	k.rsa = func() (crypto.Signer, error) {
		begun <- true
		<-end
		key, err := generate()
		made = append(made, key)
		return key, err
	}
	for range 2 { // The second finds no RSA key, and one that is being made.
		if err := k.Renew("root@web-1"); err != nil {
			t.Fatal(err)
		}
		if len(made) == 0 && k.life == 1 {
			<-begun
		}
	}
	end <- true
	<-begun
	end <- true
	<-reloads
	key, err := ssh.ParseRawPrivateKey(k.checkPair(t, "ssh_host_rsa_key", "ssh-rsa"))
	if err != nil || len(made) != 2 || !made[1].(*rsa.PrivateKey).Equal(key.(*rsa.PrivateKey)) {
		t.Errorf("%d were made, %v", len(made), err)
	}
}

func TestAnUnfinishedRSAKeyIsMadeByTheNextAgent(t *testing.T) {
	k, reloads := newKeys(t, "ssh_host_rsa_key.hearth")
	k.Resume("root@web-1")
	<-reloads
	k.checkPair(t, "ssh_host_rsa_key", "ssh-rsa")
	if k.Resume("root@web-1"); k.making {
		t.Error("it is made again")
	}
}

func TestOnlyListenersOfSSHAreReloaded(t *testing.T) {
	proc := t.TempDir()
	for pid, process := range map[string][2]string{
		"10": {"10 (sshd) S 1 10 10", "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"},
		"11": {"11 (sshd) S 1 11 11", "/usr/sbin/sshd\x00-D\x00"},
		"12": {"12 (sshd) S 10 12 12", "sshd: root [priv]"},
		"13": {"13 (sshd) S 1 13 13", "sshd: root [priv]"},
		"14": {"14 (sshd-agent) S 1 14 14", "sshd-agent"},
		"15": {"15 (a (sshd) S 1 0) S 2 15 15", "a"},
	} {
		dir := filepath.Join(proc, pid)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for i, name := range []string{"stat", "cmdline"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(process[i]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := findListeners(proc); !slices.Equal(got, []int{10, 11}) {
		t.Errorf("got %v", got)
	}
}
