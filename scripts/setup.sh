#!/usr/bin/env bash
# Makes sure that everything Quire's build and tests need is installed.
#
# Looks first and does nothing when nothing is missing (a few milliseconds). On Debian, as root,
# it installs what is missing with apt-get; anywhere else it prints what to install and exits 1.
#
#   scripts/setup.sh            what the build and the tests need
#   scripts/setup.sh --format   clang-format as well (make format, make format-check)
set -euo pipefail

# What is looked for, and the Debian package that has it.
# cmd: a command on PATH; pc: a pkg-config module.
needs='
cmd make             make
cmd cc               gcc
cmd gcc              gcc
cmd objdump          binutils
cmd meson            meson
cmd ninja            ninja-build
cmd pkg-config       pkg-config
pc  liburcu-bp       liburcu-dev
pc  liblz4           liblz4-dev
pc  libzstd          libzstd-dev
pc  libxxhash        libxxhash-dev
pc  liburing         liburing-dev
pc  numa             libnuma-dev
pc  cmocka           libcmocka-dev
pc  ncurses          libncurses-dev
cmd flock            util-linux
cmd redis-server     redis-server
cmd redis-benchmark  redis-tools
cmd sqlite3          sqlite3
cmd xz               xz-utils
cmd python3          python3
'
[ "${1:-}" = --format ] && needs+='
cmd clang-format     clang-format
'

missing() { # prints the packages that are missing, one per line
  local kind what package modules='' packages='' installed i
  while read -r kind what package; do
    case $kind in
      cmd) command -v "$what" >/dev/null 2>&1 || echo "$package" ;;
      pc) modules+=" $what" packages+=" $package" ;;
    esac
  done <<<"$needs"
  if ! command -v pkg-config >/dev/null 2>&1; then
    tr ' ' '\n' <<<"$packages" | sed '/^$/d'
    return
  fi
  # One call when all are there; one call per module only when not.
  # shellcheck disable=SC2086
  pkg-config --exists $modules 2>/dev/null && return
  installed=($packages)
  i=0
  for what in $modules; do
    pkg-config --exists "$what" 2>/dev/null || echo "${installed[$i]}"
    i=$((i + 1))
  done
}

say() { # a progress line, on a terminal only
  if [ -t 2 ]; then printf '\r\033[K%s' "$*" >&2; fi
}

todo=$(missing | sort -u | tr '\n' ' ')
todo=${todo% }
[ -z "$todo" ] && exit 0

if [ ! -e /etc/debian_version ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "setup: missing (by their Debian names): $todo" >&2
  echo "setup: this is no Debian system: install them with its own package manager" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "setup: missing: $todo" >&2
  echo "setup: run this as root:  apt-get install --no-install-recommends $todo" >&2
  exit 1
fi

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
made_policy=
finish() {
  if [ -n "$made_policy" ]; then rm -f "$policy"; fi
  rm -f "$log"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A package that brings a daemon (redis-server) must not start it: Debian asks this script first.
if [ ! -e "$policy" ]; then
  made_policy=1
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
apt() {
  apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null >>"$log" 2>&1
}
fail() {
  say ''
  tail -n 20 "$log" >&2
  echo "setup: could not install: $todo (the end of apt-get's output is above)" >&2
  exit 1
}

say "setup: installing $todo ..."
# shellcheck disable=SC2086
if ! apt install --no-install-recommends $todo; then
  say 'setup: refreshing the package lists ...'
  apt update || fail
  say "setup: installing $todo ..."
  # shellcheck disable=SC2086
  apt install --no-install-recommends $todo || fail
fi
say ''

hash -r
left=$(missing | sort -u | tr '\n' ' ')
if [ -n "$left" ]; then
  echo "setup: still missing after the installation: $left" >&2
  exit 1
fi
echo "setup: installed $todo"
