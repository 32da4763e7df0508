// Errors carry the text they were made with.
#include "base/error.h"
#include "tests/catch.h"

using namespace kontor;

TEST_CASE("[base] fail formats its message") {
  REQUIRE_THROWS_WITH(fail("matmul: {} != {}", 3, 4), "matmul: 3 != 4");
}
