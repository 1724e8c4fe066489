#!/usr/bin/env bash
# Configures a build folder when that is needed and builds in it.
#
#   scripts/build.sh [-C DIR] [--no-build] [-D OPTION]... [TARGET...]
#
#   -C DIR      the build folder (default: build)
#   -D OPTION   a meson option; given each time the folder is (re)configured
#   TARGET      ninja targets (default: everything)
#
# The sources of a folder are listed at configure time, so this keeps the list of files in
# DIR/.sources and configures again when it has changed. A lock on DIR keeps two builds apart.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=build
build=1
options=()
targets=()
while [ $# -gt 0 ]; do
  case $1 in
    -C) dir=$2; shift ;;
    -D) options+=("-D$2"); shift ;;
    -D*) options+=("$1") ;;
    --no-build) build= ;;
    -*) echo "build.sh: unknown option: $1" >&2; exit 2 ;;
    *) targets+=("$1") ;;
  esac
  shift
done

mkdir -p "$dir"
exec 9>"$dir/.lock"
if ! flock -n 9; then
  if [ -t 2 ]; then echo "build.sh: waiting for another build in $dir" >&2; fi
  flock 9
fi

# Whatever decides what is built: the lists of files, the options, and, because probing at
# configure time reads it, whether the tool has its main file yet.
state() {
  find src scenarios include tests bench examples docs/man -type f \
    \( -name '*.[chS]' -o -name '*.sh' -o -name '*.py' -o -name '*.[13]' -o -name '*.map' \) \
    2>/dev/null | LC_ALL=C sort
  printf 'option %s\n' "${options[@]+"${options[@]}"}"
}
now=$(state | cksum)

if [ ! -e "$dir/build.ninja" ]; then
  meson setup "$dir" "${options[@]+"${options[@]}"}" </dev/null >"$dir/.setup.log" 2>&1 9>&- || {
    cat "$dir/.setup.log" >&2
    exit 1
  }
  echo "$now" >"$dir/.sources"
elif [ "$now" != "$(cat "$dir/.sources" 2>/dev/null || true)" ]; then
  meson setup --reconfigure "$dir" "${options[@]+"${options[@]}"}" </dev/null \
    >"$dir/.setup.log" 2>&1 9>&- || {
    cat "$dir/.setup.log" >&2
    exit 1
  }
  echo "$now" >"$dir/.sources"
fi

[ -n "$build" ] || exit 0
jobs=()
if [ -n "${JOBS:-}" ]; then jobs=(-j "$JOBS"); fi
if [ -t 1 ]; then
  ninja -C "$dir" "${jobs[@]+"${jobs[@]}"}" "${targets[@]+"${targets[@]}"}" 9>&-
else
  ninja -C "$dir" --quiet "${jobs[@]+"${jobs[@]}"}" "${targets[@]+"${targets[@]}"}" 9>&-
fi
