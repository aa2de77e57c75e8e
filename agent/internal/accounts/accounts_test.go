package accounts

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"hearth.dev/agent/internal/fault"
)

func testFiles(t *testing.T) Files {
	dir := t.TempDir()
	f := Files{Passwd: filepath.Join(dir, "passwd"), Group: filepath.Join(dir, "group")}
	passwd := "root:x:0:0:root:/root:/bin/bash\n# a comment\nbroken:line\nweb:x:1000:100:,,,:/srv/web:\n42:x:7:7::/seven:/bin/sh\n"
	group := "root:x:0:\nusers:x:100:\nadm:x:4:web,other\ndocker:x:999:other,web\n"
	for path, text := range map[string]string{f.Passwd: passwd, f.Group: group} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestUsersAreFoundByNameAndNumber(t *testing.T) {
	files := testFiles(t)
	root := Account{Name: "root", Groups: []uint32{}, Home: "/root", Shell: "/bin/bash"}
	web := Account{Name: "web", UID: 1000, GID: 100, Groups: []uint32{4, 999}, Home: "/srv/web", Shell: "/bin/sh"}
	webWith := func(gid uint32) Account {
		a := web
		a.GID, a.Groups = gid, nil
		return a
	}
	for spec, want := range map[string]Account{
		"":          root,
		"root":      root,
		"0":         root,
		"web":       web,
		"1000":      web,
		"web:adm":   webWith(4),
		"1000:77":   webWith(77),
		"5000":      {UID: 5000, Groups: []uint32{}, Home: "/", Shell: "/bin/sh"},
		"5000:5001": {UID: 5000, GID: 5001, Home: "/", Shell: "/bin/sh"},
		"42":        {Name: "42", UID: 7, GID: 7, Groups: []uint32{}, Home: "/seven", Shell: "/bin/sh"},
	} {
		got, err := files.Find(spec)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, %v; want %+v", spec, got, err, want)
		}
	}
}

func TestUnknownUsersAndGroupsAreRefused(t *testing.T) {
	files := testFiles(t)
	for _, spec := range []string{"nobody", "web:nogroup", "web:", "-1", "99999999999", "broken"} {
		if _, err := files.Find(spec); fault.CodeOf(err) != fault.ExecBadUser {
			t.Errorf("%q: got %v", spec, err)
		}
	}
}

func TestTheIDMinusOneIsNotAUser(t *testing.T) {
	files := testFiles(t)
	for _, spec := range []string{"4294967295", "4294967295:0", "0:4294967295", "web:4294967295"} {
		if account, err := files.Find(spec); fault.CodeOf(err) != fault.InputInvalid {
			t.Errorf("%q: got %+v, %v", spec, account, err)
		}
	}
	if account, err := files.Find("4294967294:4294967294"); err != nil || account.UID != 4294967294 {
		t.Errorf("the largest id: got %+v, %v", account, err)
	}
}

func TestRootExistsWithoutDatabases(t *testing.T) {
	files := Files{Passwd: "/nonexistent/passwd", Group: "/nonexistent/group"}
	for _, spec := range []string{"", "root", "0"} {
		if got, err := files.Find(spec); err != nil || got.UID != 0 || got.Home != "/root" {
			t.Errorf("%q: got %+v, %v", spec, got, err)
		}
	}
}
