#!/usr/bin/env bash
# Every scenario without any composition - locks and objects as the product has them - and without
# a bound, with all switches on and with each of its switches off.
. "$(dirname "$0")/lib_explore.sh"
table=$(dirname "$0")/table.py
python3 "$table" "$quire" "$work" --seconds 600 -- --full --bound none || failed=1
finish
