package rpc

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	agentv1 "hearth.dev/agent/gen/hearth/agent/v1"
	"hearth.dev/agent/internal/freezer"
)

// Freeze freezes the guest's processes.
func (s *Service) Freeze(
	ctx context.Context, req *connect.Request[agentv1.FreezeRequest],
) (*connect.Response[agentv1.FreezeResponse], error) {
	warnings, err := s.Machine.Freeze(ctx, freezer.Options{
		Flush:     req.Msg.Flush,
		Timeout:   time.Duration(req.Msg.TimeoutMs) * time.Millisecond,
		UntilThaw: req.Msg.UntilThaw,
	})
	if err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(&agentv1.FreezeResponse{Warnings: warnings}), nil
}

// Thaw sets the clock, which stopped while the guest was saved, and thaws the guest's processes.
func (s *Service) Thaw(
	_ context.Context, req *connect.Request[agentv1.ThawRequest],
) (*connect.Response[agentv1.ThawResponse], error) {
	var warnings []string
	if req.Msg.UnixTimeNs != 0 {
		if err := s.Machine.SetClock(req.Msg.UnixTimeNs); err != nil {
			warnings = append(warnings, fmt.Sprintf("The clock could not be set: %v", err))
		}
	}
	if err := s.Machine.Thaw(); err != nil {
		return nil, failure(err)
	}
	return connect.NewResponse(&agentv1.ThawResponse{Warnings: warnings}), nil
}
