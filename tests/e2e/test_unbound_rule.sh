#!/usr/bin/env bash
# A rule whose right side names what its left side does not bind must not compile; the same rule with it bound must.
set -u
compiler=${CXX:-c++}
try() {
  printf '#include "graph/rules/rewrite.h"\nusing namespace kontor; using namespace kontor::pattern;\nconstexpr Rule rules[] = {{"r", x + y, %s}};\n' "$1" |
    "$compiler" -std=c++20 -fsyntax-only -I "$KONTOR_SOURCE" -I "$KONTOR_SOURCE/include" -x c++ - 2>errors
}
try x || { echo "FAILED: bound: $(head -3 errors)"; exit 1; }
echo "PASSED: bound"
if try z; then echo "FAILED: unbound: it compiles"; exit 1; fi
grep -q "not bound on the left" errors || { echo "FAILED: unbound: $(head -3 errors)"; exit 1; }
echo "PASSED: unbound"
