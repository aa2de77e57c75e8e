package boot

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

const (
	agentCopy   = "/run/hearth/hearth-agent"
	unitFolder  = "/run/systemd/system"
	unitName    = "hearth-agent.service"
	wantsFolder = unitFolder + "/sysinit.target.wants"
	imageInit   = "/sbin/init"
)

// The unit is up before almost everything and goes after it: hearthd asks through it for the stop, and wants
// to know how the stop goes. Commands of the host are not killed with it, should it restart.
const unit = `[Unit]
Description=Hearth agent
DefaultDependencies=no
IgnoreOnIsolate=yes

[Service]
ExecStart=` + agentCopy + ` --service
Restart=always
RestartSec=100ms
KillMode=process
OOMScoreAdjust=-1000
TasksMax=infinity
LimitNOFILE=65536:524288
StandardInput=null
StandardOutput=null
StandardError=kmsg
`

// openSelf has to come before the initramfs is emptied.
func openSelf() (*os.File, error) { return os.Open("/proc/self/exe") }

// prepareInit makes everything ready for the image's own init, with the agent as one of its services.
func prepareInit(self *os.File) error {
	if _, err := os.Stat(imageInit); err != nil {
		return fmt.Errorf("the image has no %s of its own, which hearth.init=systemd needs: %w", imageInit, err)
	}
	if err := mountAll([]mount{runMount}); err != nil {
		return err
	}
	if err := installService(self); err != nil {
		return fmt.Errorf("install the agent as a service: %w", err)
	}
	return nil
}

// ExecInit leaves PID 1 to the image's own init. It returns only to fail.
func (b Booted) ExecInit() error {
	b.Console.Stage("init")
	err := syscall.Exec(imageInit, []string{imageInit}, []string{"TERM=linux"})
	return fmt.Errorf("execute %s: %w", imageInit, err)
}

func installService(self *os.File) error {
	for _, dir := range []string{filepath.Dir(agentCopy), wantsFolder} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	target, err := os.OpenFile(agentCopy, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, self); err != nil {
		target.Close()
		return err
	}
	if err := target.Close(); err != nil {
		return err
	}
	path := filepath.Join(unitFolder, unitName)
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		return err
	}
	return os.Symlink(path, filepath.Join(wantsFolder, unitName))
}
