#!/bin/sh
# Builds the programs in Go, static, for every architecture: the guest agent, build/agent/hearth-agent-{x86_64,aarch64},
# and what networks of VMs take, hearth-{netns,resolver}-{x86_64,aarch64}, beside it.
#
#     tools/build-agent.sh [x86_64|aarch64]...
#
# Takes Go from $GO, otherwise from PATH. What is up to date is not built again: Go's cache sees to that.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
go=${GO:-go}
if ! command -v "$go" >/dev/null 2>&1; then
  echo "error: there is no Go to build the agent with." >&2
  echo "hint: run \`make setup\`, or set GO to a Go that is at least the version in agent/go.mod." >&2
  exit 1
fi
version=$(sed -n 's/^  "version": "\(.*\)",$/\1/p' "$root/package.json")
# An emulated CPU is so slow that Go's runtime finds every goroutine to run for too long, and would send it signals.
godebug=asyncpreemptoff=1,updatemaxprocs=0
mkdir -p "$root/build/agent"
for arch in ${*:-x86_64 aarch64}; do
  case $arch in
    x86_64) goarch=amd64 ;;
    aarch64) goarch=arm64 ;;
    *) echo "error: no agent is built for $arch; only for x86_64 and aarch64." >&2; exit 2 ;;
  esac
  for program in hearth-agent hearth-netns hearth-resolver hearth-uplink; do
    out=$root/build/agent/$program-$arch
    flags="-s -w -X main.version=$version"
    if [ "$program" = hearth-agent ]; then flags="$flags -X runtime.godebugDefault=$godebug"; fi
    # Into a new file that is then renamed: a program that runs keeps its own, and nobody sees half of one.
    (cd "$root/agent" && CGO_ENABLED=0 GOOS=linux GOARCH=$goarch "$go" build -trimpath -buildvcs=false \
      -ldflags "$flags" -o "$out.$$" "./cmd/$program")
    mv "$out.$$" "$out"
  done
done
