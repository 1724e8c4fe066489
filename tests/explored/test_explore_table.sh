#!/usr/bin/env bash
# Every scenario with all switches on, and with each of its switches off; table.py says what must
# come of it. And once without any composition, with at most two preemptions.
. "$(dirname "$0")/lib_explore.sh"
table=$(dirname "$0")/table.py
python3 "$table" "$quire" "$work" --seconds 60 || failed=1
python3 "$table" "$quire" "$work" --seconds 60 --on-only -- --full --bound 2 || failed=1
finish
