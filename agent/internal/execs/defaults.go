// Package execs runs commands: who runs them, where, with what environment, and how they end.
package execs

import "sync/atomic"

// Defaults are what the host configured for commands that do not say otherwise.
type Defaults struct {
	Env     map[string]string
	User    string
	Workdir string
	Command []string // Of a request with an empty argv; empty is a login shell.
}

// Spec is one command as it was asked for.
type Spec struct {
	ID      string
	Argv    []string // Byte for byte.
	Env     map[string]string
	User    string
	Workdir string
	Tty     *Tty
	Stdin   bool
	Detach  bool
	// TimeoutMs is when the command gets SIGTERM; 0 is never.
	TimeoutMs uint64
}

// Tty is the terminal that a command gets.
type Tty struct {
	Rows, Cols uint16
	Term       string
}

// Settings holds the defaults; the host may replace them at any time.
type Settings struct{ current atomic.Pointer[Defaults] }

// Set replaces the defaults. The caller does not change them afterwards.
func (s *Settings) Set(d Defaults) { s.current.Store(&d) }

// Get gives the defaults of now.
func (s *Settings) Get() Defaults {
	if d := s.current.Load(); d != nil {
		return *d
	}
	return Defaults{}
}
