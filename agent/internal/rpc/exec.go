package rpc

import (
	"context"
	"errors"
	"io"
	"syscall"

	"connectrpc.com/connect"
	agentv1 "hearth.dev/agent/gen/hearth/agent/v1"
	"hearth.dev/agent/internal/execs"
	"hearth.dev/agent/internal/fault"
)

type execStream = connect.BidiStream[agentv1.ExecRequest, agentv1.ExecResponse]

// Exec runs a command on its own stream: the guest's end of the wire of exec.
//
//  1. The first request is `start`. Its failure is the answer, with one of the host's codes.
//  2. `started` has the pid.
//  3. passInput writes `stdin` chunks to the command, as fast as it reads.
//  4. CopyOutput sends stdout and stderr. A host that does not read blocks the command.
//  5. `exited` is the last answer.
//  6. The end of the stream kills the command's process group, unless it is detached.
func (s *Service) Exec(ctx context.Context, stream *execStream) error {
	first, err := stream.Receive()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return failure(fault.New(fault.InputInvalid, "the first message of an exec has to be `start`"))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer s.streams.add(cancel)()
	command, err := s.startExec(ctx, start)
	if err != nil {
		return failure(err)
	}
	defer command.Close()
	if !start.Detach {
		// Also if this function fails: a command without a reader would block on its full pipes.
		defer command.Kill()
		defer context.AfterFunc(ctx, command.Kill)()
		defer s.streams.add(command.Kill)()
	}
	started := &agentv1.ExecStarted{Pid: uint32(command.Pid())}
	if err := stream.Send(&agentv1.ExecResponse{Response: &agentv1.ExecResponse_Started{Started: started}}); err != nil {
		return err
	}
	go passInput(stream, command)
	if err := command.CopyOutput(func(from int, chunk []byte) error { return stream.Send(output(from, chunk)) }); err != nil {
		return err
	}
	select {
	case <-command.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	exit := command.Exit()
	exited := &agentv1.ExecExited{Code: exit.Code, Signal: exit.Signal, TimedOut: exit.TimedOut}
	return stream.Send(&agentv1.ExecResponse{Response: &agentv1.ExecResponse_Exited{Exited: exited}})
}

// startExec waits while the guest is frozen: a child that is forked into a frozen cgroup would never reach its program.
func (s *Service) startExec(ctx context.Context, start *agentv1.ExecStart) (*execs.Command, error) {
	if err := s.Machine.Enter(ctx); err != nil {
		return nil, err
	}
	defer s.Machine.Leave()
	return s.Runner.Start(specOf(start))
}

func specOf(start *agentv1.ExecStart) execs.Spec {
	spec := execs.Spec{
		ID:        start.Id,
		Env:       start.Env,
		User:      start.User,
		Workdir:   start.Workdir,
		Stdin:     start.Stdin,
		Detach:    start.Detach,
		TimeoutMs: start.TimeoutMs,
	}
	for _, argument := range start.Argv {
		spec.Argv = append(spec.Argv, string(argument))
	}
	if tty := start.Tty; tty != nil {
		spec.Tty = &execs.Tty{Rows: windowSide(tty.Rows), Cols: windowSide(tty.Cols), Term: tty.Term}
	}
	return spec
}

// windowSide limits a terminal's side to what the kernel can store.
func windowSide(n uint32) uint16 { return uint16(min(n, 1<<16-1)) }

func output(from int, chunk []byte) *agentv1.ExecResponse {
	if from == execs.Stderr {
		return &agentv1.ExecResponse{Response: &agentv1.ExecResponse_Stderr{Stderr: chunk}}
	}
	return &agentv1.ExecResponse{Response: &agentv1.ExecResponse_Stdout{Stdout: chunk}}
}

// passInput reads to the stream's end even if the command reads no more input: the rest is dropped, so that it does not
// block the host.
func passInput(stream *execStream, command *execs.Command) {
	input := command.Input()
	for {
		message, err := stream.Receive()
		if err != nil {
			// The host half-closed the stream, or is gone. Both end the input; the latter also ends the command, in
			// Exec.
			if errors.Is(err, io.EOF) && input != nil {
				_ = command.CloseInput()
			}
			return
		}
		if input == nil {
			continue
		}
		switch request := message.Request.(type) {
		case *agentv1.ExecRequest_Stdin:
			if _, err := input.Write(request.Stdin); err != nil {
				input = nil
			}
		case *agentv1.ExecRequest_StdinClosed:
			_ = command.CloseInput() // Fails harmlessly if the command has ended.
			input = nil
		}
	}
}

// SignalExec signals a running command's process group.
func (s *Service) SignalExec(
	_ context.Context, req *connect.Request[agentv1.SignalExecRequest],
) (*connect.Response[agentv1.SignalExecResponse], error) {
	command, err := s.findExec(req.Msg.Id)
	if err != nil {
		return nil, err
	}
	if req.Msg.Signal == 0 || req.Msg.Signal > 64 {
		return nil, failure(fault.New(fault.InputInvalid, "there is no signal %d", req.Msg.Signal))
	}
	if err := command.Signal(syscall.Signal(req.Msg.Signal)); err != nil {
		return nil, connect.NewError(connect.CodeNotFound, err)
	}
	return connect.NewResponse(&agentv1.SignalExecResponse{}), nil
}

// ResizeExec sets the terminal size of a running command.
func (s *Service) ResizeExec(
	_ context.Context, req *connect.Request[agentv1.ResizeExecRequest],
) (*connect.Response[agentv1.ResizeExecResponse], error) {
	command, err := s.findExec(req.Msg.Id)
	if err != nil {
		return nil, err
	}
	if err := command.Resize(windowSide(req.Msg.Rows), windowSide(req.Msg.Cols)); err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(&agentv1.ResizeExecResponse{}), nil
}

// findExec fails without a "hearth-code", because a command that has ended meanwhile is not an error to the host.
func (s *Service) findExec(id string) (*execs.Command, error) {
	command, ok := s.Runner.Find(id)
	if !ok {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no such command runs"))
	}
	return command, nil
}
