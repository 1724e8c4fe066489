#!/usr/bin/env bash
# test_host_pingpong for minutes.
export QUIRE_PINGPONG_ROUNDS=${QUIRE_PINGPONG_ROUNDS:-400}
exec "$QUIRE_BUILD/tests/integration/test_host_pingpong"
