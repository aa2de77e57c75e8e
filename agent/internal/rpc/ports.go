package rpc

import (
	"context"

	"connectrpc.com/connect"
	agentv1 "hearth.dev/agent/gen/hearth/agent/v1"
	"hearth.dev/agent/internal/accounts"
	"hearth.dev/agent/internal/ports"
)

// ListPorts lists the ports of the guest that wait for peers.
func (s *Service) ListPorts(
	ctx context.Context, _ *connect.Request[agentv1.ListPortsRequest],
) (*connect.Response[agentv1.ListPortsResponse], error) {
	found, truncated, err := ports.Lister{Proc: "/proc", Users: accounts.System}.List(ctx)
	if err != nil {
		return nil, failure(err)
	}
	answer := &agentv1.ListPortsResponse{Truncated: truncated}
	for _, one := range found {
		answer.Ports = append(answer.Ports, &agentv1.OpenPort{
			Protocol: one.Protocol,
			Address:  one.Address.Addr().String(),
			Port:     uint32(one.Address.Port()),
			Pid:      one.PID,
			Program:  one.Program,
			User:     one.User,
		})
	}
	return connect.NewResponse(answer), nil
}
