package identity

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hearth.dev/agent/internal/smallfile"
)

// hostsMark ends the line of /etc/hosts that Hearth writes. All others belong to the image or the user.
const hostsMark = "# set by Hearth"

func (g Guest) writeHostname(hostname string) error {
	return g.writeEtc("hostname", hostname+"\n")
}

func (g Guest) writeHosts(hostname string) error {
	old, err := smallfile.Read(g.etc("hosts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var lines []string
	hasLocalhost := false
	for line := range strings.Lines(string(old)) {
		line = strings.TrimRight(line, "\n")
		if strings.HasSuffix(line, hostsMark) {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[0] == "127.0.0.1" && fields[1] == "localhost" {
			hasLocalhost = true
		}
		lines = append(lines, line)
	}
	if !hasLocalhost {
		lines = append([]string{"127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"}, lines...)
	}
	if hostname != "localhost" {
		lines = append(lines, "127.0.1.1 "+hostname+" "+hostsMark)
	}
	return g.writeEtc("hosts", strings.Join(lines, "\n")+"\n")
}

func (g Guest) writeResolvConf(nameservers []string) error {
	var text strings.Builder
	for _, server := range nameservers {
		text.WriteString("nameserver " + server + "\n")
	}
	return g.writeEtc("resolv.conf", text.String())
}

// writeMachineID writes the host's choice, or a new id into an image that has none.
func (g Guest) writeMachineID(id string) error {
	old, err := smallfile.Read(g.etc("machine-id"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	have := string(bytes.TrimSpace(old))
	isFirstBoot := err != nil || have == "uninitialized"
	if isFirstBoot && id != "" && id == g.InitsMachineID {
		return nil
	}
	if id == "" {
		if have != "" && have != "uninitialized" {
			return nil
		}
		random := randomID()
		id = hex.EncodeToString(random[:])
	}
	if have == id {
		return nil
	}
	return g.writeEtc("machine-id", id+"\n")
}

// writeEtc writes a file and replaces it if it is a symlink: an image's link into another program's state, such as
// /etc/resolv.conf, leads nowhere here. A file that something is mounted on cannot be replaced and is written in place.
func (g Guest) writeEtc(name, text string) error {
	path := g.etc(name)
	old, err := smallfile.Read(path)
	if err == nil && string(old) == text {
		return nil
	}
	if info, statErr := os.Lstat(path); err == nil && statErr == nil && info.Mode().IsRegular() {
		// In place, with one write of less than a block. Replacing the file takes three times as long in a guest that
		// was just restored and has nothing translated or cached yet.
		return smallfile.Replace(path, text, len(old))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	fresh := path + ".hearth"
	if err := os.WriteFile(fresh, []byte(text), 0o644); err != nil {
		return err
	}
	if os.Rename(fresh, path) == nil {
		return nil
	}
	return errors.Join(os.Remove(fresh), os.WriteFile(path, []byte(text), 0o644))
}

func (g Guest) etc(name string) string { return g.Root + "/etc/" + name }
