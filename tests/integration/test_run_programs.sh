#!/usr/bin/env bash
# Our own helper programs, natively and managed under small limits: the same output and status.
. "$(dirname "$0")/lib_run.sh"

for ram in 4M 64M; do
	same bufferio $ram /dev/null "$programs/bufferio"
	same torture $ram /dev/null "$programs/torture"
	same mix $ram /dev/null "$programs/mix"
	same mapping $ram /dev/null "$programs/mapping"
done
finish
