// Controls of Scalify as Calls.
#include "graph/functions/scaling.h"

#include <algorithm>

#include "base/error.h"
#include "graph/shape.h"

namespace kontor::fn {

namespace {

constexpr std::string_view names[] = {"scalify",     "cotangent",       "set_scale",    "rebalance",
                                      "stop_scale",  "dynamic_rescale", "cast_forward", "cast_backward",
                                      "scaled_data", "scale_of"};

// Far beyond what two numbers of any dtype are apart.
constexpr int64_t most_exponent = 1 << 12;

Ref control(std::string_view name, const Ref& x, Ints attributes = {}) {
  if (!is_float(x->dtype)) fail("{}: {}: only floats have a scale", name, describe(*x));
  return call(name, x, {x}, std::move(attributes));
}

int64_t checked(std::string_view who, int64_t exponent) {
  if (exponent < -most_exponent || exponent > most_exponent)
    fail("{}: an exponent of {}, not {} to {}", who, exponent, -most_exponent, most_exponent);
  return exponent;
}

int64_t format(std::string_view who, DType dtype) {
  if (!is_float(dtype) || dtype == DType::F64)
    fail("{}: {}: needs f32 or a narrower float", who, name(dtype));
  return static_cast<int64_t>(dtype);
}

}  // namespace

bool is_scale_control(const Node& call) {
  return call.is(Op::Call) && std::ranges::find(names, call.arg.text) != std::end(names);
}

Ref handed_back(const Node& control, const Ref& cotangent) {
  const std::string_view name = control.arg.text;
  const Ints& given = control.arg.ints;
  if (name == "scalify") return call("cotangent", cotangent, {cotangent}, given);
  if (name == "cast_backward") return call("cast_forward", cotangent, {cotangent}, given);
  if (name == "dynamic_rescale" && given[1] != 0) return call(name, cotangent, {cotangent}, {given[0], 0});
  return cotangent;
}

Ref scalify(const Ref& loss, DType forward, DType gradient, DType values, bool scales) {
  return control(
      "scalify", loss,
      {format("scalify", forward), format("scalify", gradient), format("scalify", values), scales});
}
Ref set_scale(const Ref& x, int64_t exponent) {
  return control("set_scale", x, {checked("set_scale", exponent)});
}
Ref rebalance(const Ref& x, int64_t exponent) {
  return control("rebalance", x, {checked("rebalance", exponent)});
}
Ref stop_scale(const Ref& x) { return control("stop_scale", x); }
Ref cast_forward(const Ref& x, DType dtype) {
  return control("cast_forward", x, {format("cast_forward", dtype)});
}
Ref cast_backward(const Ref& x, DType dtype) {
  return control("cast_backward", x, {format("cast_backward", dtype)});
}
Ref scaled_data(const Ref& x) { return control("scaled_data", x); }
Ref scale_of(const Ref& x) {
  if (!is_float(x->dtype)) fail("scale_of: {}: only floats have a scale", describe(*x));
  return call("scale_of", constant(DType::F32, 1.0), {x});
}

Ref dynamic_rescale(const Ref& x, const std::string& norm, bool backward) {
  constexpr std::string_view norms[] = {"max", "l1", "l2"};
  const auto found = std::ranges::find(norms, norm);
  if (found == std::end(norms)) fail("dynamic_rescale: a norm '{}'; there are max, l1 and l2", norm);
  return control("dynamic_rescale", x, {found - std::begin(norms), backward});
}

}  // namespace kontor::fn
