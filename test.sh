#!/usr/bin/env bash
# Sets up, builds, and runs all tests.
#
#   ./test.sh [OPTION...]   further options of ctest, such as  -L unit  or  -R metrics
set -euo pipefail
unset CDPATH
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
./setup.sh
exec ctest --test-dir build/release --no-tests=error --output-on-failure -j2 "$@"
