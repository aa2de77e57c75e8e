package rpc

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	agentv1 "hearth.dev/agent/gen/hearth/agent/v1"
)

// Info returns the agent's version and the guest's state. It is the health check and must answer, so a number that
// cannot be read is 0.
func (s *Service) Info(
	context.Context, *connect.Request[agentv1.InfoRequest],
) (*connect.Response[agentv1.InfoResponse], error) {
	memory := readMeminfo()
	return connect.NewResponse(&agentv1.InfoResponse{
		Version:              s.Version,
		BootId:               firstLine("/proc/sys/kernel/random/boot_id"),
		Kernel:               firstLine("/proc/sys/kernel/osrelease"),
		Init:                 s.Init,
		UptimeMs:             uptimeMs(),
		AgentRssBytes:        rssBytes(),
		MemoryTotalBytes:     memory["MemTotal"],
		MemoryAvailableBytes: memory["MemAvailable"],
		Execs:                uint32(s.Runner.Count()),
		Configured:           s.configured.Load(),
		Frozen:               s.Machine.Frozen(),
	}), nil
}

func firstLine(path string) string {
	text, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

func uptimeMs() uint64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0
	}
	return uint64(now.Nano() / 1_000_000)
}

func rssBytes() uint64 {
	fields := strings.Fields(firstLine("/proc/self/statm"))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(fields[1], 10, 64)
	return pages * uint64(os.Getpagesize())
}

// readMeminfo returns the kernel's figures in bytes.
func readMeminfo() map[string]uint64 {
	text, _ := os.ReadFile("/proc/meminfo")
	figures := map[string]uint64{}
	for line := range bytes.Lines(text) {
		name, value, ok := strings.Cut(string(line), ":")
		if fields := strings.Fields(value); ok && len(fields) > 0 {
			kib, _ := strconv.ParseUint(fields[0], 10, 64)
			figures[name] = kib << 10
		}
	}
	return figures
}
