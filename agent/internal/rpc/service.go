// Package rpc implements the agent's RPCs: one file for each group of calls, each a thin layer over the package that
// does the work.
package rpc

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	agentv1 "hearth.dev/agent/gen/hearth/agent/v1"
	"hearth.dev/agent/gen/hearth/agent/v1/agentv1connect"
	"hearth.dev/agent/internal/execs"
	"hearth.dev/agent/internal/freezer"
	"hearth.dev/agent/internal/identity"
	"hearth.dev/agent/internal/volumes"
)

// The limit of a message: all arguments and variables of one exec (2 MiB on the host's side), with room to spare.
const messageMaxBytes = 8 << 20

// Machine is what the agent changes about the guest as a whole. Tests have a fake.
type Machine interface {
	// Configure gives the guest its identity.
	Configure(ctx context.Context, id identity.Identity) identity.Outcome
	// SetClock sets the real-time clock if it is wrong.
	SetClock(unixNs int64) error
	// Mount mounts the volumes at their paths, in this order. Idempotent.
	Mount(mounts []volumes.Mount) error
	// Freeze freezes all processes but the agent and PID 1. Thaw thaws them. So do 30 s without another Freeze or
	// Renew, unless Freeze or Renew said that only the host may thaw.
	Freeze(ctx context.Context, options freezer.Options) (warnings []string, err error)
	Thaw() error
	Renew(restored bool)
	Frozen() bool
	// Enter waits while the guest is frozen, and prevents freezing until Leave.
	Enter(ctx context.Context) error
	Leave()
	// Shutdown begins to end the guest and returns at once.
	Shutdown(reboot bool, timeout time.Duration)
}

// Service implements the contract in proto/.
type Service struct {
	Version string
	Init    string // "agent" or "systemd".
	Runner  *execs.Runner
	Machine Machine
	// InitFollows says that the image's init is executed once the guest is configured and the host has closed the
	// connection.
	InitFollows bool
	// OnConfigured is called after each successful Configure, before the answer is sent. May be nil.
	OnConfigured func()

	configured atomic.Bool
	streams    streams
}

var _ agentv1connect.AgentServiceHandler = (*Service)(nil)

// Handler serves the RPCs. Nothing is compressed: the stream is faster than any compressor.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(agentv1connect.NewAgentServiceHandler(s,
		connect.WithReadMaxBytes(messageMaxBytes),
		connect.WithCompression("gzip", nil, nil),
	))
	return mux
}

// Configure gives the guest its identity, and then thaws its processes:
//
//  1. It ends the streams of the saved guest.
//  2. It sets entropy, clock, ids, name, keys and network (identity.Guest).
//  3. It mounts the volumes.
//  4. It thaws.
//
// A restored guest whose identity could not be renewed stays frozen, and so does a guest without one of its volumes.
func (s *Service) Configure(
	ctx context.Context, req *connect.Request[agentv1.ConfigureRequest],
) (*connect.Response[agentv1.ConfigureResponse], error) {
	m := req.Msg
	s.Machine.Renew(m.Restored)
	if m.Restored {
		s.streams.endAll()
	}
	s.Runner.Settings.Set(execs.Defaults{Env: m.Env, User: m.User, Workdir: m.Workdir, Command: m.Command})
	outcome := s.Machine.Configure(ctx, identity.Identity{
		Hostname:   m.Hostname,
		UnixTimeNs: m.UnixTimeNs,
		Entropy:    m.Entropy,
		MachineID:  m.MachineId,
		Restored:   m.Restored,
		Network: identity.Network{
			MAC:         m.GetNetwork().GetMac(),
			Interface:   m.GetNetwork().GetInterface(),
			Addresses:   m.GetNetwork().GetAddresses(),
			Gateway:     m.GetNetwork().GetGateway(),
			Nameservers: m.GetNetwork().GetNameservers(),
			Address6:    m.GetNetwork().GetAddress6(),
			Gateway6:    m.GetNetwork().GetGateway6(),
		},
	})
	if len(outcome.NotRenewed) > 0 {
		return nil, notRenewed(outcome.NotRenewed)
	}
	if err := s.Machine.Mount(mountsOf(m)); err != nil {
		return nil, failure(err)
	}
	if err := s.Machine.Thaw(); err != nil {
		return nil, failure(err)
	}
	s.configured.Store(true)
	if s.OnConfigured != nil {
		s.OnConfigured()
	}
	answer := &agentv1.ConfigureResponse{Warnings: outcome.Warnings, InitFollows: s.InitFollows}
	return connect.NewResponse(answer), nil
}

// Configured tells whether Configure has succeeded since the agent started.
func (s *Service) Configured() bool { return s.configured.Load() }

func mountsOf(m *agentv1.ConfigureRequest) []volumes.Mount {
	var mounts []volumes.Mount
	for _, mount := range m.Mounts {
		mounts = append(mounts, volumes.Mount{Device: mount.Device, Path: mount.Path, ReadOnly: mount.ReadOnly})
	}
	return mounts
}

// Shutdown flushes and powers the guest off. The answer is sent while processes are still being ended.
func (s *Service) Shutdown(
	_ context.Context, req *connect.Request[agentv1.ShutdownRequest],
) (*connect.Response[agentv1.ShutdownResponse], error) {
	s.Machine.Shutdown(req.Msg.Reboot, time.Duration(req.Msg.TimeoutMs)*time.Millisecond)
	return connect.NewResponse(&agentv1.ShutdownResponse{}), nil
}
