// Package accounts looks up users and groups in /etc/passwd and /etc/group, without the C library.
package accounts

import (
	"bufio"
	"errors"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"hearth.dev/agent/internal/fault"
)

// Files are the paths of the two databases.
type Files struct{ Passwd, Group string }

// System has the paths of a Linux system.
var System = Files{Passwd: "/etc/passwd", Group: "/etc/group"}

// Account is the user and the groups that a command runs with.
type Account struct {
	Name   string // Empty when the uid has no name.
	UID    uint32
	GID    uint32
	Groups []uint32 // Supplementary groups.
	Home   string
	Shell  string
}

const fallbackShell = "/bin/sh"

// noID is -1 to the kernel: a system call that gets it keeps the id that the process has.
const noID = math.MaxUint32

func noIDFault(number string) error {
	return fault.New(fault.InputInvalid, "%s is no id of a user or a group: the largest is %d", number, uint32(noID-1))
}

// Find parses NAME, UID, NAME:GROUP or UID:GID; empty is root. A name must have an entry, a number need not. An account
// with an explicit group has no supplementary groups.
func (f Files) Find(spec string) (Account, error) {
	user, group, hasGroup := strings.Cut(spec, ":")
	account, err := f.findUser(user)
	if err != nil {
		return Account{}, err
	}
	if !hasGroup {
		account.Groups, err = f.supplementary(account)
		return account, err
	}
	account.GID, err = f.findGroup(group, spec)
	return account, err
}

func (f Files) findUser(user string) (Account, error) {
	if user == "" {
		user = "0"
	}
	number, numberErr := strconv.ParseUint(user, 10, 32)
	if numberErr == nil && number == noID {
		return Account{}, noIDFault(user)
	}
	var byNumber *Account
	var byName *Account
	err := eachLine(f.Passwd, func(fields []string) {
		account, ok := parsePasswd(fields)
		if !ok {
			return
		}
		if account.Name == user && byName == nil {
			byName = &account
		}
		if numberErr == nil && account.UID == uint32(number) && byNumber == nil {
			byNumber = &account
		}
	})
	switch {
	case err != nil:
		return Account{}, err
	case byName != nil:
		return *byName, nil
	case byNumber != nil:
		return *byNumber, nil
	case numberErr == nil && number == 0, user == "root":
		return Account{Name: "root", Home: "/root", Shell: fallbackShell}, nil
	case numberErr == nil:
		return Account{UID: uint32(number), Home: "/", Shell: fallbackShell}, nil
	}
	return Account{}, fault.New(fault.ExecBadUser, "there is no user %q in the guest", user)
}

func (f Files) findGroup(group, spec string) (uint32, error) {
	if group == "" {
		return 0, fault.New(fault.ExecBadUser, "the user %q names no group after the colon", spec)
	}
	var found *uint32
	err := eachLine(f.Group, func(fields []string) {
		if len(fields) < 3 || fields[0] != group || found != nil {
			return
		}
		if gid, err := strconv.ParseUint(fields[2], 10, 32); err == nil && gid != noID {
			value := uint32(gid)
			found = &value
		}
	})
	if err != nil {
		return 0, err
	}
	if found != nil {
		return *found, nil
	}
	if number, err := strconv.ParseUint(group, 10, 32); err == nil {
		if number == noID {
			return 0, noIDFault(group)
		}
		return uint32(number), nil
	}
	return 0, fault.New(fault.ExecBadUser, "there is no group %q in the guest", group)
}

func (f Files) supplementary(account Account) ([]uint32, error) {
	groups := []uint32{}
	if account.Name == "" {
		return groups, nil
	}
	err := eachLine(f.Group, func(fields []string) {
		if len(fields) < 4 || !slices.Contains(strings.Split(fields[3], ","), account.Name) {
			return
		}
		gid, err := strconv.ParseUint(fields[2], 10, 32)
		if err == nil && !slices.Contains(groups, uint32(gid)) {
			groups = append(groups, uint32(gid))
		}
	})
	return groups, err
}

func parsePasswd(fields []string) (Account, bool) {
	if len(fields) < 7 {
		return Account{}, false
	}
	uid, uidErr := strconv.ParseUint(fields[2], 10, 32)
	gid, gidErr := strconv.ParseUint(fields[3], 10, 32)
	if uidErr != nil || gidErr != nil || uid == noID || gid == noID {
		return Account{}, false
	}
	account := Account{Name: fields[0], UID: uint32(uid), GID: uint32(gid), Home: fields[5], Shell: fields[6]}
	if account.Home == "" {
		account.Home = "/"
	}
	if account.Shell == "" {
		account.Shell = fallbackShell
	}
	return account, true
}

// eachLine calls visit for each entry. A missing database has no entries.
func eachLine(path string, visit func(fields []string)) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20) // A group can have thousands of members.
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			visit(strings.Split(line, ":"))
		}
	}
	return lines.Err()
}
