package rpc

import (
	"errors"
	"strings"

	"connectrpc.com/connect"
	agentv1 "hearth.dev/agent/gen/hearth/agent/v1"
	"hearth.dev/agent/internal/fault"
	"hearth.dev/agent/internal/identity"
)

// codeHeader is the metadata key with the host's error code of an RPC's error.
const codeHeader = "hearth-code"

var rpcCodes = map[fault.Code]connect.Code{
	fault.ExecNotFound:      connect.CodeNotFound,
	fault.ExecNotExecutable: connect.CodePermissionDenied,
	fault.ExecBadUser:       connect.CodeInvalidArgument,
	fault.FileNotFound:      connect.CodeNotFound,
	fault.FileRefused:       connect.CodeInvalidArgument,
	fault.InputInvalid:      connect.CodeInvalidArgument,
	fault.DiskFull:          connect.CodeResourceExhausted,
	fault.IdentityFailed:    connect.CodeFailedPrecondition,
	fault.AgentFailed:       connect.CodeInternal,
}

func failure(err error) error {
	code := fault.CodeOf(err)
	answer := connect.NewError(rpcCodes[code], err)
	answer.Meta().Set(codeHeader, string(code))
	return answer
}

// notRenewed is the error of a restored guest that the host must end. Its details are the parts.
func notRenewed(failed []identity.NotRenewed) error {
	detail := &agentv1.IdentityNotRenewed{}
	var sentences []string
	for _, one := range failed {
		sentences = append(sentences, one.Error())
		detail.Failures = append(detail.Failures, &agentv1.IdentityNotRenewed_Failure{
			Part: string(one.Part), Reason: one.Cause.Error(),
		})
	}
	var answer *connect.Error
	err := failure(fault.New(fault.IdentityFailed, "the restored guest stays frozen, because its identity was not renewed: %s",
		strings.Join(sentences, "; ")))
	if made, detailErr := connect.NewErrorDetail(detail); detailErr == nil && errors.As(err, &answer) {
		answer.AddDetail(made)
	}
	return err
}
