package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/disks"
)

// ParseModuleList parses mods.txt: one path below /mod on each line, in the order of loading. Empty lines and lines
// that begin with # are skipped.
func ParseModuleList(text string) ([]string, error) {
	var paths []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !filepath.IsLocal(line) {
			return nil, fmt.Errorf("the module %q is not below /mod", line)
		}
		paths = append(paths, filepath.Join("/mod", line))
	}
	return paths, nil
}

// loadModules loads the modules of a list. A module that cannot be loaded is only reported on the console, because it
// may not be needed. If it is, its user fails later.
func loadModules(console *Console, list string) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return fmt.Errorf("the list of modules: %w", err)
	}
	paths, err := ParseModuleList(string(text))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := loadModule(path); err != nil {
			console.Say("module %s: %v", path, err)
		}
	}
	return nil
}

func loadModule(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	flags := 0
	switch filepath.Ext(path) {
	case ".xz", ".zst", ".gz":
		flags = unix.MODULE_INIT_COMPRESSED_FILE
	}
	err = unix.FinitModule(int(file.Fd()), "", flags)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// mountModules mounts the disk with the kernel's modules where modprobe looks for them. They belong to the kernel and
// not to the image.
func mountModules(disk string) error {
	if disk == "" {
		return nil
	}
	device, err := disks.Find(disk)
	if err != nil {
		return err
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	target := "/lib/modules/" + unix.ByteSliceToString(name.Release[:])
	return mountAll([]mount{{device, target, "ext4", unix.MS_RDONLY | quietly | unix.MS_NOEXEC, "noload"}})
}
