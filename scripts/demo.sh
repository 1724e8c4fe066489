#!/usr/bin/env bash
# The demonstration behind `make run`: a real program on real input, under a quarter of the memory
# that it wants.
#
# 1. GNU sort sorts a file natively; its peak of resident memory is the working set W.
# 2. The same under `quire run --ram W/4`; the outputs must be equal.
# 3. While it runs, the operating system's own count of what is resident at managed addresses is
#    sampled from /proc/PID/smaps, the program stopped for each sample; the report's peak must be
#    no less than any sample, and no more than the limit allows.
set -euo pipefail
cd "$(dirname "$0")/.."
quire=${QUIRE_BUILD:-build}/quire
mb=${DEMO_MB:-96}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

if [ ! -x "$quire" ] || ! "$quire" run --help >/dev/null 2>&1; then
  echo "demo: $quire was not built" >&2
  exit 1
fi

# Real input: the text of the system's documentation and dictionaries, in a fixed shuffled order.
echo "input: about $mb MiB of text from /usr/share"
find /usr/share/doc /usr/share/common-licenses /usr/share/perl /usr/include \
  -type f -size -256k -print0 2>/dev/null | LC_ALL=C sort -z | xargs -0 cat 2>/dev/null |
  LC_ALL=C tr -cs '[:print:]' '\n' > "$dir/text" || true
while [ "$(stat -c %s "$dir/text")" -lt $((mb * 1048576)) ]; do
  awk '{ print NR, $0 }' "$dir/text" > "$dir/more" && cat "$dir/more" >> "$dir/text"
done
head -c $((mb * 1048576)) "$dir/text" > "$dir/input"
rm -f "$dir/text" "$dir/more"

sorter=(sort --parallel=1 -S 2G "$dir/input")
export LC_ALL=C
echo "native run of: sort --parallel=1 -S 2G"
want=$(python3 - "$dir/native" "${sorter[@]}" <<'PY'
import resource, subprocess, sys
subprocess.run(sys.argv[2:], stdout=open(sys.argv[1], "wb"), check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
PY
)
ram=$((want / 4))
echo "it held ${want} KiB; now with ${ram} KiB:"
echo
"$quire" run --ram "${ram}K" --json "$dir/report" -- "${sorter[@]}" \
  > "$dir/managed" 2> "$dir/screen" &
pid=$!
python3 - "$pid" > "$dir/samples" <<'PY' &
import glob, os, re, signal, sys, time
# Resident bytes of every mapping that lies in a managed region: those are the huge reservations
# of the process. It is stopped meanwhile: else a page that moves is counted twice or not at all.
pid, peak = int(sys.argv[1]), 0

def stopped():
    states = [open(f).read().rsplit(")", 1)[1].split()[0]
              for f in glob.glob("/proc/%d/task/*/stat" % pid)]
    return all(s in "TtZX" for s in states)

try:
    while True:
        os.kill(pid, signal.SIGSTOP)
        while not stopped():
            time.sleep(0.0005)
        total, inside = 0, False
        regions = []
        for line in open("/proc/%d/smaps" % pid):
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
            if m:
                a, b = int(m[1], 16), int(m[2], 16)
                # Parts of one reservation follow each other without a gap.
                inside = b - a >= 1 << 32 or bool(regions and regions[-1] == a)
                if inside:
                    regions.append(b)
            elif inside and line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
        peak = max(peak, total)
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)
except (FileNotFoundError, ProcessLookupError):
    pass
finally:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass
print(peak)
PY
sampler=$!
status=0
wait "$pid" || status=$?
wait "$sampler" || true
cat "$dir/screen"
echo
[ "$status" -eq 0 ] || { echo "demo: sort ended with status $status under quire" >&2; exit 1; }
cmp "$dir/native" "$dir/managed" || { echo "demo: the outputs differ" >&2; exit 1; }
echo "output: identical to the native run ($(stat -c %s "$dir/managed") bytes)"
python3 - "$dir/report" "$(cat "$dir/samples")" <<'PY'
import json, sys
r, seen = json.load(open(sys.argv[1])), int(sys.argv[2])
peak, limit = r["resident_peak_bytes"], r["ram_limit_bytes"]
print("resident: report's peak %d KiB, limit %d KiB, most that the kernel was seen to hold %d KiB"
      % (peak >> 10, limit >> 10, seen >> 10))
over = r.get("over_limit_pages", 0) * 4096
if seen > peak:
    sys.exit("demo: the kernel holds more than the report says")
if peak > limit + over:
    sys.exit("demo: the limit was exceeded without a word")
if seen < peak // 2:
    sys.exit("demo: the samples missed the managed memory: nothing was checked")
PY
