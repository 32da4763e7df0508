// One header for Catch2 v2 and v3, and KONTOR_SKIP, which says that a test lacks its data or device.
#pragma once
#include <cstdio>
#include <string>

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/interfaces/catch_interfaces_capture.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
using Catch::Approx;
#else
#include <catch2/catch.hpp>
#endif

/// Ends the running TEST_CASE; tests/run counts it as skipped, not as passed. (Catch2 v2 has no SKIP of its own.)
#define KONTOR_SKIP(reason)                                                                    \
  do {                                                                                         \
    std::printf("\nSKIPPED: %s: %s\n", Catch::getResultCapture().getCurrentTestName().c_str(), \
                std::string(reason).c_str());                                                  \
    std::fflush(stdout);                                                                       \
    return;                                                                                    \
  } while (false)
