// Package rpc answers the host: one file per group of calls, each a thin layer over the package that does it.
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
	"hearth.dev/agent/internal/identity"
	"hearth.dev/agent/internal/volumes"
)

// A message holds at most all arguments and variables of one exec (2 MiB on the host's side), with room.
const messageMaxBytes = 8 << 20

// Machine is what the agent changes about the guest as a whole. In tests it is a pretence.
type Machine interface {
	// Configure gives the guest its identity. What could not be done comes back in sentences.
	Configure(ctx context.Context, id identity.Identity) (warnings []string)
	// SetClock sets the wall clock, when it is off.
	SetClock(unixNs int64) error
	// Mount makes the volumes appear at their paths, in this order. Idempotent.
	Mount(mounts []volumes.Mount) error
	// Freeze holds all processes but the agent's and PID 1; Thaw lets them go on, and so do 30 s without another
	// Freeze or Renew.
	Freeze(ctx context.Context, flush bool, timeout time.Duration) (warnings []string, err error)
	Thaw() error
	Renew()
	Frozen() bool
	// Enter waits while they are held, and keeps them from being held until Leave.
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

	configured atomic.Bool
	streams    streams
}

var _ agentv1connect.AgentServiceHandler = (*Service)(nil)

// Handler serves the contract. Nothing is compressed: the stream is faster than any compressor.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(agentv1connect.NewAgentServiceHandler(s,
		connect.WithReadMaxBytes(messageMaxBytes),
		connect.WithCompression("gzip", nil, nil),
	))
	return mux
}

// Configure gives the guest its identity, and lets go on what was held until it had one. It stays held when a volume
// is missing, for as long as the freezer's own patience lasts.
func (s *Service) Configure(
	ctx context.Context, req *connect.Request[agentv1.ConfigureRequest],
) (*connect.Response[agentv1.ConfigureResponse], error) {
	m := req.Msg
	s.Machine.Renew()
	if m.Restored {
		s.streams.endAll()
	}
	s.Runner.Settings.Set(execs.Defaults{Env: m.Env, User: m.User, Workdir: m.Workdir, Command: m.Command})
	warnings := s.Machine.Configure(ctx, identity.Identity{
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
		},
	})
	if err := s.Machine.Mount(mountsOf(m)); err != nil {
		return nil, failure(err)
	}
	if err := s.Machine.Thaw(); err != nil {
		return nil, failure(err)
	}
	s.configured.Store(true)
	return connect.NewResponse(&agentv1.ConfigureResponse{Warnings: warnings}), nil
}

func mountsOf(m *agentv1.ConfigureRequest) []volumes.Mount {
	var mounts []volumes.Mount
	for _, mount := range m.Mounts {
		mounts = append(mounts, volumes.Mount{Device: mount.Device, Path: mount.Path, ReadOnly: mount.ReadOnly})
	}
	return mounts
}

// Shutdown flushes and powers the guest off. The answer goes out while processes are still being ended.
func (s *Service) Shutdown(
	_ context.Context, req *connect.Request[agentv1.ShutdownRequest],
) (*connect.Response[agentv1.ShutdownResponse], error) {
	s.Machine.Shutdown(req.Msg.Reboot, time.Duration(req.Msg.TimeoutMs)*time.Millisecond)
	return connect.NewResponse(&agentv1.ShutdownResponse{}), nil
}
