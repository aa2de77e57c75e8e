package boot

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

const (
	agentCopy = "/run/hearth/hearth-agent"
	unitDir   = "/run/systemd/system"
	unitName  = "hearth-agent.service"
	wantsDir  = unitDir + "/sysinit.target.wants"
	imageInit = "/sbin/init"
)

// The unit starts before almost everything else and stops after it: hearthd asks the agent to stop the guest, and
// watches the stop through it. If the unit is restarted, the commands of the host are not killed.
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

// openSelf opens the agent's binary, which is needed after the initramfs has been emptied.
func openSelf() (*os.File, error) { return os.Open("/proc/self/exe") }

// prepareInit installs the agent as a service of the image's own init.
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

// ExecInit replaces PID 1 by the image's own init. It returns only on failure.
func (b Booted) ExecInit() error {
	b.Console.Stage("init")
	err := syscall.Exec(imageInit, []string{imageInit}, []string{"TERM=linux"})
	return fmt.Errorf("execute %s: %w", imageInit, err)
}

func installService(self *os.File) error {
	for _, dir := range []string{filepath.Dir(agentCopy), wantsDir} {
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
	path := filepath.Join(unitDir, unitName)
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		return err
	}
	return os.Symlink(path, filepath.Join(wantsDir, unitName))
}
