#!/usr/bin/env bash
# Real programs on a fast and a slow node: the same output in every placement, what is cold on the
# slow node, what is used on the fast one, and a report that says so.
. "$(dirname "$0")/lib_run.sh"

find /usr/share /usr/include -type f -size +8k \( -name '*.h' -o -name '*.txt' -o -name '*.py' -o \
	-name '*.pl' -o -name '*.pm' -o -name '*.html' \) 2>/dev/null | sort | head -n 3000 |
	xargs cat 2>/dev/null | head -c 12000000 >"$work/text"
sort "$work/text" >"$work/sorted"

# A dictionary that is filled once, and a tenth of it used all the time; with a fork in between.
cat >"$work/hot.py" <<'PY'
import os, random, sys
r = random.Random(7)
d = {i: b"%d" % i * 40 for i in range(60000)}
total = 0
for n in range(120000):
    k = r.randrange(6000) if n % 20 else r.randrange(60000)
    total += len(d[k])
pid = os.fork()
if not pid:
    ok = all(d[k] == b"%d" % k * 40 for k in range(60000))
    os._exit(0 if ok else 1)
if os.waitpid(pid, 0)[1]:
    sys.exit("the child read something else")
print(total, all(d[k] == b"%d" % k * 40 for k in range(60000)))
PY
python3 "$work/hot.py" >"$work/hot.native"

nodes="--node fast=8M --node slow=256M"
for how in "--placement fast" "--placement interleave" "--placement random --promote 0" \
	"--placement fast --ram 24M"; do
	# shellcheck disable=SC2086
	"$quire" run --quiet --json "$work/sort.json" $nodes $how -- \
		sort --parallel=1 -S 64M "$work/text" >"$work/out" || fail "sort $how: status $?"
	cmp -s "$work/sorted" "$work/out" || fail "sort $how: the output differs"
	# shellcheck disable=SC2086
	"$quire" run --quiet --json "$work/hot.json" $nodes $how -- \
		python3 "$work/hot.py" >"$work/out" || fail "python3 $how: status $?"
	cmp -s "$work/hot.native" "$work/out" || fail "python3 $how: the output differs"
	python3 - "$work/sort.json" "$work/hot.json" "$how" <<'PY' || fail "the reports with $how"
import json, sys
how = sys.argv[3]
for path in sys.argv[1:3]:
    r = json.load(open(path))
    fast, slow = r["nodes"]
    assert [fast["name"], slow["name"]] == ["fast", "slow"], r
    assert fast["bytes"] == 8 << 20 and slow["bytes"] == 256 << 20
    assert fast["used_bytes"] <= fast["bytes"], r
    assert r["warnings"] == 0 and r["over_limit_pages"] == 0, r
    assert fast["demoted_out"] == slow["demoted_in"] == r["demoted_pages"]
    assert slow["promoted_out"] == fast["promoted_in"] == r["promoted_pages"]
    if how == "--placement fast":
        assert r["demoted_pages"] > 0 and r["hint_faults"] > 0 and r["promoted_pages"] > 0, r
        assert r["swap_out_pages"] == 0, r
    if "--promote 0" in how:
        assert r["promoted_pages"] == 0, r
    if "--ram" in how:
        assert r["ram_limit_bytes"] == 24 << 20 and r["swap_out_pages"] > 0, r
PY
	echo "ok: $how"
done
finish
