// The stages of a computation that can be printed, for `kontor dump --stage`, KONTOR_DUMP and docs/inspecting-kernels.md.
#pragma once
#include <string_view>

namespace kontor {

inline constexpr std::string_view dump_stages[] = {
    "graph", "passes", "stages", "decisions", "schedule", "kernel", "accesses", "source", "ir", "asm",
};

}  // namespace kontor
