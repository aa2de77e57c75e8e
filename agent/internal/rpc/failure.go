package rpc

import (
	"connectrpc.com/connect"
	"hearth.dev/agent/internal/fault"
)

// codeHeader tells the host which of its error codes an error is; it comes as metadata of the RPC's error.
const codeHeader = "hearth-code"

var rpcCodes = map[fault.Code]connect.Code{
	fault.ExecNotFound:      connect.CodeNotFound,
	fault.ExecNotExecutable: connect.CodePermissionDenied,
	fault.ExecBadUser:       connect.CodeInvalidArgument,
	fault.FileNotFound:      connect.CodeNotFound,
	fault.FileRefused:       connect.CodeInvalidArgument,
	fault.InputInvalid:      connect.CodeInvalidArgument,
	fault.DiskFull:          connect.CodeResourceExhausted,
	fault.AgentFailed:       connect.CodeInternal,
}

func failure(err error) error {
	code := fault.CodeOf(err)
	answer := connect.NewError(rpcCodes[code], err)
	answer.Meta().Set(codeHeader, string(code))
	return answer
}
