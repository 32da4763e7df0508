// The random Hadamard transform of 16 numbers, which spreads what stands out over all of them before they are rounded (NVFP4 training,
// arXiv 2509.25149, section 4.2). All entries are +-1/4, so that only the sums are rounded.
#include "base/error.h"
#include "base/threefry.h"
#include "graph/functions/formula.h"
#include "graph/functions/quantise.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

namespace {

constexpr int64_t size = 16;

/// [16, 16]: the sign of row i, by bit i of `signs`, times that of Hadamard's matrix, (-1)^(number of bits that i and j share), over 4.
Ref matrix(int64_t signs) {
  const Dims shape{index(size), index(size)};
  const Ref along = iota(index(size), DType::I32);
  const Term i(broadcast(unsqueeze(along, 1), shape)), j(broadcast(along, shape));
  Term shared = i & j;
  shared = shared ^ (shared >> 2);
  shared = shared ^ (shared >> 1);
  const Term turned = (shared ^ op(Op::Shr, i.integer(signs), i)) & int64_t{1};
  return (0.25 - turned.as(DType::F32) * 0.5).node;
}

}  // namespace

Ref hadamard(const Ref& given, int64_t which, int64_t seed, bool inverse) {
  const Ref x = in_accumulator(as_float(given));
  const int64_t axis = axis_of("hadamard", *x, which);
  const Ref& n = x->shape[static_cast<size_t>(axis)];
  if (!n->bounds.exact() || extent(n) % size != 0)
    fail("hadamard: {}: {} along axis {} are no multiple of {}", describe(*x), describe_dim(n), axis, size);
  const auto signs = static_cast<int64_t>(threefry(static_cast<uint64_t>(seed), 0)[0] & 0xFFFF);
  const Ref last = transpose(x, axis, -1), by = cast(matrix(signs), x->dtype);
  Dims blocks(last->shape.begin(), last->shape.end());
  blocks.back() = index(extent(n) / size);
  blocks.push_back(index(size));
  const Ref turned = matmul(reshape(last, blocks), inverse ? transpose(by, 0, 1) : by);
  return transpose(reshape(turned, Dims(last->shape.begin(), last->shape.end())), axis, -1);
}

}  // namespace kontor::fn
