package rpc

import (
	"context"
	"errors"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	agentv1 "hearth.dev/agent/gen/hearth/agent/v1"
	"hearth.dev/agent/gen/hearth/agent/v1/agentv1connect"
	"hearth.dev/agent/internal/accounts"
	"hearth.dev/agent/internal/execs"
	"hearth.dev/agent/internal/freezer"
	"hearth.dev/agent/internal/identity"
	"hearth.dev/agent/internal/reaper"
	"hearth.dev/agent/internal/volumes"
)

// fakeMachine is frozen or not, and records its calls.
type fakeMachine struct {
	frozen  bool
	done    []string
	noMount error
	noClock error
	outcome identity.Outcome
}

func (m *fakeMachine) Configure(context.Context, identity.Identity) identity.Outcome {
	m.done = append(m.done, "identity")
	return m.outcome
}

func (m *fakeMachine) SetClock(int64) error {
	m.done = append(m.done, "clock")
	return m.noClock
}

func (m *fakeMachine) Mount([]volumes.Mount) error {
	m.done = append(m.done, "mounts")
	return m.noMount
}

func (m *fakeMachine) Freeze(context.Context, freezer.Options) ([]string, error) {
	m.frozen = true
	return []string{"one warning"}, nil
}

func (m *fakeMachine) Thaw() error {
	m.frozen = false
	m.done = append(m.done, "thaw")
	return nil
}

func (m *fakeMachine) Renew(bool)                   { m.done = append(m.done, "renew") }
func (m *fakeMachine) Frozen() bool                 { return m.frozen }
func (*fakeMachine) Enter(context.Context) error    { return nil }
func (*fakeMachine) Leave()                         {}
func (m *fakeMachine) Shutdown(bool, time.Duration) {}

func newService(t *testing.T) (*Service, *fakeMachine) {
	t.Helper()
	machine := &fakeMachine{}
	runner := execs.NewRunner(reaper.New(t.Context(), false), accounts.System)
	return &Service{Runner: runner, Machine: machine}, machine
}

func freeze(t *testing.T, s *Service) {
	t.Helper()
	answer, err := s.Freeze(t.Context(), connect.NewRequest(&agentv1.FreezeRequest{}))
	if err != nil || !slices.Equal(answer.Msg.Warnings, []string{"one warning"}) {
		t.Fatal(answer, err)
	}
}

func (s *Service) saysFrozen(t *testing.T) bool {
	t.Helper()
	answer, err := s.Info(t.Context(), connect.NewRequest(&agentv1.InfoRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	return answer.Msg.Frozen
}

func TestConfigureThawsWhenAllElseIsDone(t *testing.T) {
	s, machine := newService(t)
	freeze(t, s)
	if !s.saysFrozen(t) {
		t.Error("a frozen guest does not report it")
	}
	if _, err := s.Configure(t.Context(), connect.NewRequest(&agentv1.ConfigureRequest{})); err != nil {
		t.Fatal(err)
	}
	if want := []string{"renew", "identity", "mounts", "thaw"}; !slices.Equal(machine.done, want) || s.saysFrozen(t) {
		t.Errorf("got %v", machine.done)
	}
}

func TestThawSetsTheClockBeforeProcessesRun(t *testing.T) {
	s, machine := newService(t)
	machine.noClock = errors.New("no")
	for _, c := range []struct {
		unixTimeNs int64
		done       []string
		warnings   []string
	}{
		{1, []string{"clock", "thaw"}, []string{"The clock could not be set: no"}},
		{0, []string{"thaw"}, nil},
	} {
		machine.done = nil
		freeze(t, s)
		answer, err := s.Thaw(t.Context(), connect.NewRequest(&agentv1.ThawRequest{UnixTimeNs: c.unixTimeNs}))
		if err != nil || !slices.Equal(answer.Msg.Warnings, c.warnings) || !slices.Equal(machine.done, c.done) {
			t.Errorf("got %v, %v, %v", answer, err, machine.done)
		}
	}
}

func TestAGuestWithoutOneOfItsVolumesStaysFrozen(t *testing.T) {
	s, machine := newService(t)
	freeze(t, s)
	machine.noMount = errors.New("no such device")
	if _, err := s.Configure(t.Context(), connect.NewRequest(&agentv1.ConfigureRequest{})); err == nil {
		t.Error("the volume is not missed")
	}
	if !s.saysFrozen(t) {
		t.Error("it continues without the volume")
	}
}

func TestARestoredGuestWhoseIdentityWasNotRenewedStaysFrozenAndNamesThePart(t *testing.T) {
	s, machine := newService(t)
	freeze(t, s)
	machine.outcome.NotRenewed = []identity.NotRenewed{{Part: identity.PartMachineID, Cause: errors.New("read-only file system")}}
	_, err := s.Configure(t.Context(), connect.NewRequest(&agentv1.ConfigureRequest{Restored: true}))
	var answer *connect.Error
	if !errors.As(err, &answer) || answer.Meta().Get(codeHeader) != "vm.identity_failed" || len(answer.Details()) != 1 {
		t.Fatalf("got %v", err)
	}
	value, err := answer.Details()[0].Value()
	if err != nil {
		t.Fatal(err)
	}
	detail, ok := value.(*agentv1.IdentityNotRenewed)
	if !ok || len(detail.Failures) != 1 || detail.Failures[0].Part != "machine id" ||
		detail.Failures[0].Reason != "read-only file system" {
		t.Errorf("got %v", value)
	}
	if !s.saysFrozen(t) || s.Configured() || slices.Contains(machine.done, "mounts") {
		t.Errorf("it runs all the same: %v", machine.done)
	}
}

func TestARestoreEndsTheCommandsOfTheConnectionBeforeIt(t *testing.T) {
	s, _ := newService(t)
	server := httptest.NewUnstartedServer(s.Handler())
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	client := agentv1connect.NewAgentServiceClient(server.Client(), server.URL)
	stream := client.Exec(t.Context())
	start := &agentv1.ExecStart{Id: "1", Argv: [][]byte{[]byte("sleep"), []byte("100")}}
	if err := stream.Send(&agentv1.ExecRequest{Request: &agentv1.ExecRequest_Start{Start: start}}); err != nil {
		t.Fatal(err)
	}
	if answer, err := stream.Receive(); err != nil || answer.GetStarted() == nil {
		t.Fatal(answer, err)
	}
	command, ok := s.Runner.Find("1")
	if !ok {
		t.Fatal("the command was not found")
	}
	if _, err := client.Configure(t.Context(), connect.NewRequest(&agentv1.ConfigureRequest{Restored: true})); err != nil {
		t.Fatal(err)
	}
	<-command.Done()
	for {
		answer, err := stream.Receive()
		if err != nil || strings.Contains(answer.String(), "signal:9") {
			return
		}
	}
}
