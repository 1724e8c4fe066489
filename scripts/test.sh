#!/usr/bin/env bash
# Builds Quire, runs its tests, and ends with the one line `N passed, N failed, N skipped`.
#
#   scripts/test.sh [-C DIR] [-D OPTION]... [--deep] [--suite SUITE]... [NAME...]
#
#   -C DIR        the build folder (default: build)
#   -D OPTION     a meson option for it
#   --deep        the suite 'deep' as well
#   --suite S     only this suite: unit, property, integration, explored, tidy, deep
#   NAME          only these tests; only what they need is built
#
# Exit status: 0 when nothing failed, 1 when a test failed, another when it could not be built.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=build
options=()
suites=()
names=()
deep=
while [ $# -gt 0 ]; do
  case $1 in
    -C) dir=$2; shift ;;
    -D) options+=(-D "$2"); shift ;;
    --deep) deep=1 ;;
    --suite) suites+=("$2"); shift ;;
    -*) echo "test.sh: unknown option: $1" >&2; exit 2 ;;
    *) names+=("$1") ;;
  esac
  shift
done

# With names that are all C tests, only their executables are built; else everything.
targets=()
for name in "${names[@]+"${names[@]}"}"; do
  found=
  for suite in unit property explored integration; do
    if [ -e "tests/$suite/$name.c" ]; then found=tests/$suite/$name; fi
  done
  if [ -z "$found" ]; then targets=(); break; fi
  targets+=("$found")
done
scripts/build.sh -C "$dir" "${options[@]+"${options[@]}"}" "${targets[@]+"${targets[@]}"}"
args=(-C "$dir" --no-rebuild)
if [ ${#suites[@]} -gt 0 ]; then
  for suite in "${suites[@]}"; do args+=(--suite "$suite"); done
elif [ -z "$deep" ] && [ ${#names[@]} = 0 ]; then
  args+=(--no-suite deep)
fi

# One run of the tests at a time in one folder: they share its logs.
exec 8>"$dir/.test-lock"
flock 8
log=$dir/meson-logs/testlog.json
rm -f "$log"

# ThreadSanitizer's shadow does not fit every layout that address randomisation may choose.
run=(meson)
if meson introspect "$dir" --buildoptions | tr '}' '\n' | grep '"b_sanitize"' | grep -q thread \
  && setarch "$(uname -m)" -R true 2>/dev/null; then
  run=(setarch "$(uname -m)" -R meson)
fi

status=0
if [ -t 1 ]; then
  "${run[@]}" test "${args[@]}" "${names[@]+"${names[@]}"}" </dev/null 8>&- || status=$?
else
  # Piped: meson's own summary is left out, ours says it all.
  "${run[@]}" test "${args[@]}" "${names[@]+"${names[@]}"}" </dev/null 8>&- \
    >"$dir/meson-logs/test-run.txt" 2>&1 || status=$?
fi
if [ ! -e "$log" ] && [ "$status" != 0 ]; then
  cat "$dir/meson-logs/test-run.txt" 2>/dev/null || true
  echo "test.sh: meson could not run the tests (exit status $status)" >&2
  exit 1
fi
exec python3 scripts/test-summary.py "$log" --status "$status"
