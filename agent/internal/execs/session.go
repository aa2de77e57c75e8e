package execs

import (
	"bytes"
	"os"
	"strconv"
)

// sessionMembers lists the processes of a session, without its leader.
func sessionMembers(session int) []int {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil
	}
	var members []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err == nil && pid != session && sessionOf(pid) == session {
			members = append(members, pid)
		}
	}
	return members
}

// sessionOf parses /proc/PID/stat: `pid (name) state ppid pgrp session …`. The name may contain any character.
func sessionOf(pid int) int {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 4 {
		return 0
	}
	session, err := strconv.Atoi(string(fields[3]))
	if err != nil {
		return 0
	}
	return session
}
