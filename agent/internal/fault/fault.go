// Package fault has the agent's errors: a code that the host knows, and a sentence for the user.
package fault

import (
	"errors"
	"fmt"
)

// Code is one of the host's error codes. It travels in the metadata header "hearth-code".
type Code string

const (
	ExecNotFound      Code = "exec.not_found"
	ExecNotExecutable Code = "exec.not_executable"
	ExecBadUser       Code = "exec.bad_user"
	FileNotFound      Code = "file.not_found"
	FileRefused       Code = "file.refused"
	InputInvalid      Code = "input.invalid"
	DiskFull          Code = "guest.disk_full"
	IdentityFailed    Code = "vm.identity_failed"
	AgentFailed       Code = "agent.failed"
)

// Fault is an error with a code. Its message is a sentence, which the wrapped cause follows, if there is one.
type Fault struct {
	Code     Code
	Sentence string
	Cause    error
}

func (f *Fault) Error() string {
	if f.Cause == nil {
		return f.Sentence
	}
	return f.Sentence + ": " + f.Cause.Error()
}

func (f *Fault) Unwrap() error { return f.Cause }

// New makes a Fault without a cause.
func New(code Code, format string, args ...any) *Fault {
	return &Fault{Code: code, Sentence: fmt.Sprintf(format, args...)}
}

// Because makes a Fault with a cause.
func Because(cause error, code Code, format string, args ...any) *Fault {
	return &Fault{Code: code, Sentence: fmt.Sprintf(format, args...), Cause: cause}
}

// CodeOf returns the code of an error.
func CodeOf(err error) Code {
	var f *Fault
	if errors.As(err, &f) {
		return f.Code
	}
	return AgentFailed
}
