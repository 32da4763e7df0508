// What the pass knows of Calls by their names: functions whose formula is of the value, and controls.
#pragma once
#include <string_view>

#include "scalify/scaled.h"

namespace kontor::scalify {

/// Whether the Call is computed from the values of its arguments by its body as it stands. Of every other Call the body's operations
/// are what counts, each by its own rule.
bool is_of_values(const Node& call);
/// What such a Call is.
Scaled of_values(const Node& call, std::span<const Scaled* const> arguments, const RuleOptions& options);

/// Whether the Call has a row: that it is of values, is a control, or that its body counts. One of a program's own has none, and
/// its body counts.
bool is_known(std::string_view call);

/// Whether what comes out is a value that models keep for the backward pass: a layer's or an activation's.
bool is_kept(std::string_view call);

}  // namespace kontor::scalify
