package execs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"hearth.dev/agent/internal/accounts"
	"hearth.dev/agent/internal/fault"
)

// plan is a command with all defaults and lookups resolved.
type plan struct {
	path    string
	argv    []string
	env     []string
	workdir string
	account accounts.Account
}

const (
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	defaultTerm = "xterm-256color"
)

func makePlan(spec Spec, defaults Defaults, files accounts.Files) (plan, error) {
	user := spec.User
	if user == "" {
		user = defaults.User
	}
	account, err := files.Find(user)
	if err != nil {
		return plan{}, err
	}
	p := plan{argv: spec.Argv, account: account}
	if len(p.argv) == 0 {
		p.argv = defaults.Command
	}
	if len(p.argv) == 0 {
		p.argv = []string{account.Shell, "-l"}
	}
	env := environment(account, spec, defaults)
	p.env = pairs(env)
	if err := checkStrings(p.argv, p.env); err != nil {
		return plan{}, err
	}
	if p.workdir, err = findWorkdir(spec.Workdir, defaults.Workdir, account.Home); err != nil {
		return plan{}, err
	}
	p.path, err = findProgram(p.argv[0], env["PATH"], p.workdir)
	return p, err
}

func environment(account accounts.Account, spec Spec, defaults Defaults) map[string]string {
	env := map[string]string{"PATH": defaultPath, "HOME": account.Home, "SHELL": account.Shell}
	if account.Name != "" {
		env["USER"], env["LOGNAME"] = account.Name, account.Name
	}
	if spec.Tty != nil {
		env["TERM"] = defaultTerm
		if spec.Tty.Term != "" {
			env["TERM"] = spec.Tty.Term
		}
	}
	for _, more := range []map[string]string{defaults.Env, spec.Env} {
		for name, value := range more {
			env[name] = value
		}
	}
	return env
}

func pairs(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// checkStrings refuses strings with a zero byte, at which the kernel would cut them.
func checkStrings(argv, env []string) error {
	for _, text := range argv {
		if strings.ContainsRune(text, 0) {
			return fault.New(fault.InputInvalid, "an argument holds a zero byte, which no program can receive")
		}
	}
	for _, pair := range env {
		if strings.ContainsRune(pair, 0) || strings.HasPrefix(pair, "=") {
			return fault.New(fault.InputInvalid, "a variable has no name or holds a zero byte")
		}
	}
	return nil
}

// findWorkdir returns the working directory. A directory that was asked for must exist. A missing home directory is
// replaced by the root, as login does.
func findWorkdir(asked, configured, home string) (string, error) {
	for _, dir := range []string{asked, configured} {
		if dir == "" {
			continue
		}
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(home, dir)
		}
		info, err := os.Stat(dir)
		if err != nil {
			return "", fault.Because(pathCause(err), fault.FileNotFound, "cannot work in the directory %q", dir)
		}
		if !info.IsDir() {
			return "", fault.New(fault.FileNotFound, "cannot work in %q: it is not a directory", dir)
		}
		return dir, nil
	}
	if info, err := os.Stat(home); err == nil && info.IsDir() {
		return home, nil
	}
	return "/", nil
}

// findProgram resolves a name like execvp, but with the command's PATH and directory instead of the agent's.
func findProgram(name, path, workdir string) (string, error) {
	if name == "" {
		return "", fault.New(fault.ExecNotFound, "the command has an empty name")
	}
	if strings.Contains(name, "/") {
		absolute := name
		if !filepath.IsAbs(absolute) {
			absolute = filepath.Join(workdir, name)
		}
		return name, checkProgram(absolute, name)
	}
	var refused error
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(workdir, dir)
		}
		file := filepath.Join(dir, name)
		err := checkProgram(file, file)
		if err == nil {
			return file, nil
		}
		if fault.CodeOf(err) == fault.ExecNotExecutable && refused == nil {
			refused = err
		}
	}
	if refused != nil {
		return "", refused
	}
	return "", fault.New(fault.ExecNotFound, "there is no command %q in the guest's PATH", name)
}

func checkProgram(file, shown string) error {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return fault.New(fault.ExecNotFound, "there is no file %q in the guest", shown)
	}
	if err != nil {
		return fault.Because(pathCause(err), fault.ExecNotExecutable, "%q cannot be executed", shown)
	}
	if info.IsDir() {
		return fault.New(fault.ExecNotExecutable, "%q is a directory", shown)
	}
	if info.Mode()&0o111 == 0 {
		return fault.New(fault.ExecNotExecutable, "%q is not executable", shown)
	}
	return nil
}

// startFault explains why the kernel did not execute a program that was found before.
func startFault(err error, p plan) error {
	switch {
	case errors.Is(err, unix.ENOENT):
		return fault.New(fault.ExecNotFound, "%q needs an interpreter that is not in the guest", p.path)
	case errors.Is(err, unix.E2BIG):
		return fault.New(fault.InputInvalid, "the arguments and variables are too long for the guest's kernel")
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOEXEC), errors.Is(err, unix.EPERM):
		return fault.Because(err, fault.ExecNotExecutable, "%q cannot be executed", p.path)
	}
	return fault.Because(err, fault.AgentFailed, "%q could not be started", p.path)
}

// pathCause removes the operation and path that Go puts before a system error, because the sentence has them already.
func pathCause(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
