// See scaled_product.h; what it hands back is graph/transforms/scaled_gradient.cpp. A Call's attributes are five numbers a rounding: format,
// kind of scale, rows and columns of a block (-1, -1: the whole tensor), whether it is stochastic; then whether Hadamard's transform is used.
#include "graph/functions/scaled_product.h"

#include "base/error.h"
#include "graph/shape.h"

namespace kontor {

namespace {

constexpr size_t numbers = 5;

void write(Ints& to, const Rounding& r) {
  const bool whole = r.block.empty();
  to.insert(to.end(), {r.format - element_formats().data(), static_cast<int64_t>(r.kind),
                       whole ? -1 : r.block[0], whole ? -1 : r.block[1], r.stochastic});
}

Rounding read(const Node& call, size_t which) {
  const auto at = [&](size_t i) { return call.at(which * numbers + i); };
  const Ints block = at(2) < 0 ? Ints{} : Ints{at(2), at(3)};
  return {&element_formats()[static_cast<size_t>(at(0))], static_cast<ScaleKind>(at(1)), block, at(4) != 0};
}

}  // namespace

Rounding rounding_of(std::string_view who, const Quantisation& q) {
  Ints block = q.block;
  if (block.size() == 1) block.insert(block.begin(), 1);
  if (block.size() > 2) fail("{}: blocks of {} axes: a block has rows and columns", who, block.size());
  for (int64_t extent : block)
    if (extent < 0) fail("{}: a block of {}", who, extent);
  return {&find_element_format(who, q.format), find_scale_kind(who, q.scale), block, q.stochastic};
}

ProductRoundings roundings_of(const Node& call) {
  return {read(call, 0), read(call, 1), read(call, 2), call.at(3 * numbers) != 0};
}

namespace fn {

Ref for_product(const Ref& x, const Rounding& r, bool over_last) {
  if (r.changes_nothing()) return x;
  Ints block = r.block;
  if (!over_last && block.size() == 2 && block[0] == 1) std::swap(block[0], block[1]);
  return fake_quantised(x, *r.format, r.kind, block, r.stochastic ? noise_for(x->shape) : Ref());
}

Ref scaled_product(const Ref& given, const Ref& given_weight, const ProductRecipe& recipe) {
  constexpr std::string_view who = "scaled_product";
  if (given->rank() == 0 || given_weight->rank() != 2 || given->shape.back() != given_weight->shape[1])
    fail("{}: {} x {}: needs x [.., in] and weight [out, in]", who, describe(*given),
         describe(*given_weight));
  const Input operands[] = {as_float(given), as_float(given_weight)};
  const DType dtype = operand_dtype(who, operands);
  const Ref x = cast(operands[0].node, dtype), weight = cast(operands[1].node, dtype);
  const Rounding roundings[] = {rounding_of(who, recipe.input), rounding_of(who, recipe.weight),
                                rounding_of(who, recipe.gradient)};
  Ints attributes;
  for (const Rounding& r : roundings) write(attributes, r);
  attributes.push_back(recipe.hadamard);
  const Ref body =
      matmul(for_product(x, roundings[0], true), transpose(for_product(weight, roundings[1], true), 0, 1));
  return call(who, body, {x, weight}, std::move(attributes));
}

}  // namespace fn
}  // namespace kontor
