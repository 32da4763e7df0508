// Controls of Scalify: Calls that are their argument wherever the pass does not run (scalify/scalify.h), and tell it of scales.
#pragma once
#include "graph/functions/functions.h"

namespace kontor::fn {

enum class ScaleNorm : uint8_t { Max, L1, L2 };

/// Whether one of these functions, or a gradient of one, made it.
bool is_scale_control(const Node& call);
/// The Call around x that a control hands back to its argument: of cast_backward a cast_forward, of a backward rescale a forward one.
Ref handed_back(const Node& control, const Ref& cotangent);

}  // namespace kontor::fn
