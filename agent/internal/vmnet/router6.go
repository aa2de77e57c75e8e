package vmnet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A Linux router ignores the router advertisements by which it found its own address and default route, and removes that
// route, unless accept_ra of the link is 2 (ip-sysctl.rst). So each link that accepts them gets that value first, and a
// file has the values from before.

// conf6 has the settings of each link, and of "all" and "default". A kernel without IPv6 has none.
const conf6 = "/proc/sys/net/ipv6/conf"

// forwarding6 makes every link forward, and no link accept advertisements.
const forwarding6 = "all/forwarding"

// The values of accept_ra: advertisements are accepted unless the link forwards; and always.
const (
	acceptUnlessRouter = "1"
	acceptAlways       = "2"
)

// newLinksHave6 says whether new links have IPv6. An administrator may have disabled it, also for the whole kernel.
func newLinksHave6() (bool, error) {
	value, _, err := read6("default/disable_ipv6")
	return value == "0", err
}

// setting6 is a setting of a link, with its value from before.
type setting6 struct{ name, value string }

func (s setting6) isAcceptance() bool { return strings.HasSuffix(s.name, "/accept_ra") }

// recordRouter6 writes down what startForwarding6 changes, if it changes something: after a crash in between, the file is
// there.
func recordRouter6(file, linkPrefix string) error {
	if value, _, err := read6(forwarding6); err != nil || value != "0" {
		return err
	}
	recorded, err := readRecord6(file)
	if err != nil {
		return err
	}
	links, err := os.ReadDir(conf6)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, setting := range recorded {
		known[setting.name] = true
	}
	for _, link := range links {
		if link.Name() == "all" || strings.HasPrefix(link.Name(), linkPrefix) {
			continue
		}
		// The kernel sets forwarding of all links to what "all" gets, and back.
		for _, name := range []string{link.Name() + "/accept_ra", link.Name() + "/forwarding"} {
			value, _, err := read6(name)
			if err != nil {
				return err
			}
			// Somebody else may have changed it since it was recorded first.
			if value == "1" && !known[name] {
				recorded = append(recorded, setting6{name, value})
			}
		}
	}
	var text bytes.Buffer
	for _, setting := range recorded {
		fmt.Fprintf(&text, "%s %s\n", setting.name, setting.value)
	}
	if err := os.WriteFile(file+".new", text.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// startForwarding6 makes the host a router, as recordRouter6 has written down.
func startForwarding6(file string) error {
	isRecorded, err := exists(file)
	if err != nil || !isRecorded {
		return err
	}
	if value, _, err := read6(forwarding6); err != nil || value != "0" {
		return err
	}
	recorded, err := readRecord6(file)
	if err != nil {
		return err
	}
	for _, setting := range recorded {
		if !setting.isAcceptance() {
			continue
		}
		value, _, err := read6(setting.name)
		if err == nil && value == acceptUnlessRouter {
			err = write6(setting.name, acceptAlways)
		}
		if err != nil {
			return err
		}
	}
	return write6(forwarding6, "1")
}

// restoreRouter6 undoes startForwarding6. What was changed since then stays.
func restoreRouter6(file string) error {
	if err := os.Remove(file + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	isRecorded, err := exists(file)
	if err != nil || !isRecorded {
		return err
	}
	value, _, err := read6(forwarding6)
	if err == nil && value == "1" {
		err = write6(forwarding6, "0")
	}
	if err != nil {
		return err
	}
	recorded, err := readRecord6(file)
	if err != nil {
		return err
	}
	for _, setting := range recorded {
		now, isThere, err := read6(setting.name)
		if err == nil && isThere && (!setting.isAcceptance() || now == acceptAlways) {
			err = write6(setting.name, setting.value)
		}
		if err != nil {
			return err
		}
	}
	return os.Remove(file)
}

func readRecord6(file string) ([]setting6, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var recorded []setting6
	for line := range strings.Lines(string(text)) {
		if name, value, isSetting := strings.Cut(strings.TrimSpace(line), " "); isSetting {
			recorded = append(recorded, setting6{name, value})
		}
	}
	return recorded, nil
}

// read6 returns a setting, if it exists: links come and go.
func read6(name string) (value string, isThere bool, err error) {
	text, err := os.ReadFile(filepath.Join(conf6, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	return strings.TrimSpace(string(text)), err == nil, err
}

func write6(name, value string) error {
	err := os.WriteFile(filepath.Join(conf6, name), []byte(value+"\n"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // The link is gone.
	}
	return err
}
