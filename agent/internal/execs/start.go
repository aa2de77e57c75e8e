package execs

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/fault"
	"hearth.dev/agent/internal/reaper"
)

// start executes the plan in a new session, whose group can be signalled as a whole, and in the cgroup. It closes the
// cgroup.
func start(r *reaper.Reaper, p plan, spec Spec, cgroup *os.File) (*reaper.Process, *streams, error) {
	if cgroup != nil {
		defer cgroup.Close()
	}
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
	if cgroup != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(cgroup.Fd())
	}
	process, err := startSomewhere(r, p.path, p.argv, attr)
	if err == unix.ENOEXEC {
		// A script without `#!`: every shell, and execvp, runs it with /bin/sh.
		process, err = startSomewhere(r, "/bin/sh", append([]string{"/bin/sh", p.path}, p.argv[1:]...), attr)
	}
	if err != nil {
		s.close()
		return nil, nil, startFault(err, p)
	}
	return process, s, nil
}

// startSomewhere starts the program outside of the cgroup if that cannot take it: the kernel may be too old for
// CLONE_INTO_CGROUP, or root in the guest has made it a cgroup that has only other cgroups. Running the command is more
// important than its cgroup.
func startSomewhere(r *reaper.Reaper, path string, argv []string, attr *syscall.ProcAttr) (*reaper.Process, error) {
	process, err := r.Start(path, argv, attr)
	switch err {
	case unix.ENOSYS, unix.EBUSY, unix.EOPNOTSUPP, unix.ENOENT, unix.ENODEV:
		// ENOENT means that the cgroup was removed, or that the program is missing, and then the second try fails with
		// it, too.
		if attr.Sys.UseCgroupFD {
			attr.Sys.UseCgroupFD = false
			return r.Start(path, argv, attr)
		}
	}
	return process, err
}
