#!/usr/bin/env bash
# The programs of test_programs.sh with working sets of hundreds of megabytes.
export QUIRE_SCALE=6
exec "$(dirname "$0")/test_programs.sh"
