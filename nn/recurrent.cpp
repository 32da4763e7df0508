// LSTM and GRU: all inputs' products at once, then a Call that goes from step to step.
#include "graph/functions/recurrent.h"

#include <cmath>

#include <kontor/transformer.h>

#include "base/error.h"
#include "graph/recording.h"
#include "graph/shape.h"

namespace kontor::inline v0::nn {

namespace {

Linear gates(int64_t in, int64_t size, int64_t parts, bool with_bias) {
  const double bound = size > 0 ? 1 / std::sqrt(static_cast<double>(size)) : 0;
  Linear layer;
  layer.weight = Tensor::uniform({parts * size, in}, -bound, bound);
  if (with_bias) layer.bias = Tensor::uniform({parts * size}, -bound, bound);
  return layer;
}

int64_t checked(std::string_view who, int64_t in, int64_t size) {
  if (in < 0 || size < 1 || size > most_elements / 4) fail("{}: {} inputs and a state of {}", who, in, size);
  return size;
}

Tensor state_or_zeros(const Tensor& given, const Tensor& x, const Linear& state) {
  return given.empty() ? Tensor::zeros({x.dims()[0], state.weight.size(1)}, x.dtype()) : given;
}

void need_sequence(std::string_view who, const Tensor& x) {
  if (x.rank() != 3) fail("{}: {}: needs [batch, n, in]", who, describe(*node_of(x)));
}

/// The last of [batch, n, size], or where there are no steps what was before.
Tensor last(const Tensor& steps, const Tensor& before) {
  return steps.size(1) > 0 ? steps.select(1, -1) : before;
}

}  // namespace

LSTM::LSTM(int64_t in, int64_t size, bool with_bias)
    : input(gates(in, checked("LSTM", in, size), 4, with_bias)), state(gates(size, size, 4, with_bias)) {}

Recurrence LSTM::operator()(const Tensor& x, const Tensor& hidden, const Tensor& cell) const {
  need_sequence("LSTM", x);
  const Tensor h = state_or_zeros(hidden, x, state), c = state_or_zeros(cell, x, state), given = input(x);
  const Tensor all = state.bias.empty() ? given : given + state.bias;
  const Tensor both = tensor_of(fn::lstm(node_of(all), node_of(state.weight), node_of(h), node_of(c)));
  const int64_t size = state.weight.size(1);
  const Tensor outputs = both.slice(-1, 0, size);
  return {outputs, last(outputs, h), last(both.slice(-1, size), c)};
}

GRU::GRU(int64_t in, int64_t size, bool with_bias)
    : input(gates(in, checked("GRU", in, size), 3, with_bias)), state(gates(size, size, 3, with_bias)) {}

Recurrence GRU::operator()(const Tensor& x, const Tensor& hidden) const {
  need_sequence("GRU", x);
  const Tensor h = state_or_zeros(hidden, x, state), given = input(x);
  const Tensor bias =
      state.bias.empty() ? Tensor::zeros({state.weight.size(0)}, state.weight.dtype()) : state.bias;
  const Tensor outputs = tensor_of(fn::gru(node_of(given), node_of(state.weight), node_of(bias), node_of(h)));
  return {outputs, last(outputs, h), {}};
}

}  // namespace kontor::inline v0::nn
