// Package execs runs commands: as which user, where, with what environment, and how they end.
package execs

import "sync/atomic"

// Defaults are the settings for commands that do not choose otherwise.
type Defaults struct {
	Env     map[string]string
	User    string
	Workdir string
	Command []string // For a request with an empty argv; empty is a login shell.
}

// Spec is a command as the host requested it.
type Spec struct {
	ID      string
	Argv    []string // Passed on byte for byte.
	Env     map[string]string
	User    string
	Workdir string
	Tty     *Tty
	Stdin   bool
	Detach  bool
	// TimeoutMs is the time in milliseconds after which the command gets SIGTERM; 0 is no limit.
	TimeoutMs uint64
}

// Tty is the terminal of a command.
type Tty struct {
	Rows, Cols uint16
	Term       string
}

// Settings holds the defaults, which the host may replace at any time.
type Settings struct{ current atomic.Pointer[Defaults] }

// Set replaces the defaults. The caller must not change them afterwards.
func (s *Settings) Set(d Defaults) { s.current.Store(&d) }

// Get returns the current defaults.
func (s *Settings) Get() Defaults {
	if d := s.current.Load(); d != nil {
		return *d
	}
	return Defaults{}
}
