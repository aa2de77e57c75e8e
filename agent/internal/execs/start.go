package execs

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/fault"
	"hearth.dev/agent/internal/reaper"
)

// start executes the plan in a session of its own, whose group can be signalled as a whole.
func start(r *reaper.Reaper, p plan, spec Spec) (*reaper.Process, *streams, error) {
	s, err := openStreams(spec, p.account.UID)
	if err != nil {
		return nil, nil, fault.Because(err, fault.AgentFailed, "the command's streams could not be made")
	}
	defer s.closeChild()
	attr := &syscall.ProcAttr{
		Dir:   p.workdir,
		Env:   p.env,
		Files: []uintptr{uintptr(s.child[0]), uintptr(s.child[1]), uintptr(s.child[2])},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: spec.Tty != nil, Ctty: 0},
	}
	if os.Geteuid() == 0 {
		a := p.account
		attr.Sys.Credential = &syscall.Credential{Uid: a.UID, Gid: a.GID, Groups: a.Groups}
	}
	process, err := r.Start(p.path, p.argv, attr)
	if err == unix.ENOEXEC {
		// A script without `#!`: every shell, and execvp, runs it by /bin/sh.
		process, err = r.Start("/bin/sh", append([]string{"/bin/sh", p.path}, p.argv[1:]...), attr)
	}
	if err != nil {
		s.close()
		return nil, nil, startFault(err, p)
	}
	return process, s, nil
}
