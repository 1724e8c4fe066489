#!/usr/bin/env bash
# Every scenario without any composition: locks and objects as the product has them, at most three
# preemptions; and again as it is, without a bound of its own, with all the time that it wants.
. "$(dirname "$0")/lib_explore.sh"
table=$(dirname "$0")/table.py
python3 "$table" "$quire" "$work" --seconds 300 --on-only -- --full --bound 3 || failed=1
python3 "$table" "$quire" "$work" --seconds 600 -- --bound none || failed=1
finish
