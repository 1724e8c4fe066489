#!/usr/bin/env bash
# quire bench: each row runs with small sizes and prints sane figures; options are checked; after an
# interruption or a kill nothing is left (no child, no swap device, no control group).
set -uo pipefail

quire=${QUIRE:?path of the quire command}
failed=0
fail() {
  echo "FAIL: $*" >&2
  failed=1
}

work=$(mktemp -d)
bench_pid=
finish() {
  # Ending the benchmark makes its keeper remove what it set up.
  if [ -n "$bench_pid" ]; then kill -TERM "$bench_pid" 2>/dev/null; wait "$bench_pid"; fi
  rm -rf "$work"
}
trap finish EXIT

if [ ! -x "$quire" ]; then
  echo "SKIP: $quire was not built"
  exit 77
fi
if [ "${QUIRE_SANITIZE:-}" = thread ]; then
  echo "SKIP: figures under ThreadSanitizer say nothing, and its shadow leaves no addresses"
  exit 77
fi
if ! "$quire" bench --list >"$work/list"; then
  fail "--list: exit status $?"
fi
groups=()
if [ -n "${QUIRE_SANITIZE:-}" ]; then
  # no preloaded library in sanitizer builds
  groups=(whole whole-2 half half-2 metadata core fork snapshot live
    batch batch-shared base huge behind core-migrate tier)
fi

# ---- options ----

expect_usage() {
  local status=0
  "$quire" bench "$@" >"$work/out" 2>"$work/err" || status=$?
  [ "$status" = 2 ] || fail "bench $*: exit status $status, not 2"
  [ "$(wc -l <"$work/err")" = 1 ] || fail "bench $*: not one line: $(cat "$work/err")"
  [ ! -s "$work/out" ] || fail "bench $*: output although it was refused"
}
expect_usage no-such-row
expect_usage --no-such-option
expect_usage --rounds 0
expect_usage --rounds 9x
expect_usage --rounds
expect_usage --data noise
"$quire" bench --help | grep -q '^usage: quire bench' || fail "--help shows no usage"

# ---- every row ----

status=0
"$quire" bench --quick --json "${groups[@]+"${groups[@]}"}" >"$work/all.json" \
  2>"$work/err" || status=$?
[ "$status" = 0 ] || fail "bench --quick --json: exit status $status"
[ ! -s "$work/err" ] || fail "messages on a pipe: $(head -3 "$work/err")"

python3 - "$work/all.json" "$work/list" "${groups[@]+"${groups[@]}"}" <<'END' || failed=1
import json, math, statistics, sys

result = json.load(open(sys.argv[1]))
listed, group = {}, None
for line in open(sys.argv[2]):
    if not line.startswith(" "):
        group = line.split(":")[0]
    else:
        listed[line.split()[0]] = group
wanted = {n for n, g in listed.items() if len(sys.argv) == 3 or g in sys.argv[3:]}
bad = []
names = [row["name"] for row in result["rows"]]
if sorted(names) != sorted(wanted):
    bad.append("rows %s, listed %s" % (sorted(names), sorted(wanted)))
if result["machine"]["cpus"] < 1 or not result["machine"]["kernel"]:
    bad.append("no machine: %s" % result["machine"])
if result["quick"] is not True or not 64 << 20 <= result["area_bytes"] <= 128 << 20:
    bad.append("not a tenth: %s" % result["area_bytes"])
for row in result["rows"]:
    name = row["name"]
    if "error" in row:
        bad.append("%s: %s" % (name, row["error"]))
    for side in ("ours", "peer"):
        rounds = [v for v in row[side + "_rounds"] if v is not None]
        if len(row[side + "_rounds"]) != row["rounds"]:
            bad.append("%s: %s has not %d rounds" % (name, side, row["rounds"]))
        if not all(math.isfinite(v) and 0 < v < 1e12 for v in rounds):
            bad.append("%s: strange figures: %s" % (name, rounds))
        median = row[side]
        if (median is None) != (not rounds):
            bad.append("%s: %s %s of rounds %s" % (name, side, median, rounds))
        if rounds and abs(median - statistics.median(rounds)) > 1e-6 * median:
            bad.append("%s: %s is no median of %s" % (name, median, rounds))
    if row["ours"] is None and "ours_missing" not in row:
        bad.append("%s: not measured, and no reason" % name)
    pairs = [a / b for a, b in zip(row["ours_rounds"], row["peer_rounds"]) if a and b]
    if (row["ratio"] is None) != (not pairs):
        bad.append("%s: ratio %s" % (name, row["ratio"]))
    if pairs and abs(row["ratio"] - statistics.median(pairs)) > 1e-6 * row["ratio"]:
        bad.append("%s: ratio %s is no median of %s" % (name, row["ratio"], pairs))
    for side in ("ours_missing", "peer_missing"):
        if side in row:
            print("note: %s: %s" % (name, row[side]))
for text in bad:
    print("FAIL: " + text, file=sys.stderr)
sys.exit(bool(bad))
END

# The table shows the same rows, and single rows can be asked for.
"$quire" bench --quick --rounds 1 core-touch metadata >"$work/table" 2>&1 ||
  fail "single rows: exit status $?"
grep -q '^core-touch ' "$work/table" || fail "the table lacks core-touch: $(cat "$work/table")"
grep -q '^metadata ' "$work/table" || fail "the table lacks metadata"
grep -q '^core-unmap' "$work/table" && fail "the table has a row that nobody asked for"

# ---- interruption ----

group_of() { # the control group that the benchmark with this process id made
  local dir
  for dir in /sys/fs/cgroup/quire-bench-"$1"-* /sys/fs/cgroup/*/quire-bench-"$1"-*; do
    if [ -d "$dir" ]; then echo "$dir"; fi
  done
}

children_of() {
  local stat
  for stat in /proc/[0-9]*/stat; do
    # pid (name) state parent group session
    if [ "$(sed 's/.*) . \([0-9]*\) .*/\1/' "$stat" 2>/dev/null)" = "$1" ]; then echo "$stat"; fi
  done
}

interrupt() { # signal, expected exit status
  local i group='' device='' status=0 pids
  # A shell starts background commands with SIGINT ignored; python restores it.
  python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])' "$quire" bench --quick --rounds 31 half \
    >"$work/out" 2>"$work/err" &
  bench_pid=$!
  for i in $(seq 100); do
    group=$(group_of "$bench_pid")
    [ -z "$group" ] || break
    sleep 0.05
  done
  # Until the kernel's side runs in the group (or for a moment, where there is none).
  for i in $(seq 400); do
    if [ -z "$group" ]; then sleep 0.5; break; fi
    [ -z "$(cat "$group/cgroup.procs" 2>/dev/null)" ] || break
    sleep 0.05
  done
  device=${group##*-}
  pids=$(children_of "$bench_pid" | tr -dc '0-9\n')
  kill "-$1" "$bench_pid"
  wait "$bench_pid" 2>/dev/null || status=$?
  [ "$status" = "$2" ] || fail "SIG$1: exit status $status, not $2"
  bench_pid=
  [ -n "$pids" ] || fail "SIG$1: the benchmark had no children"
  for i in $(seq 200); do
    { [ -n "$group" ] && [ -e "$group" ]; } || [ -e "/sys/block/${device:-none}" ] || break
    sleep 0.05
  done
  if [ -n "$group" ]; then
    [ ! -e "$group" ] || fail "SIG$1: $group is left"
    [ ! -e "/sys/block/$device" ] || fail "SIG$1: /sys/block/$device is left"
    grep -q "^/dev/$device " /proc/swaps && fail "SIG$1: /dev/$device is still swap"
  fi
  for i in $pids; do
    for tries in $(seq 200); do
      [ -d "/proc/$i" ] && ! grep -q '^State:.Z' "/proc/$i/status" 2>/dev/null || continue 2
      sleep 0.1
    done
    fail "SIG$1: process $i is left"
  done
}
interrupt INT 130
interrupt TERM 143
interrupt KILL 137

if [ "$failed" = 0 ]; then echo "bench smoke: all well"; fi
exit "$failed"
