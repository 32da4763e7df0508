// Values and gradients of Tensors against numbers that a test has computed itself.
#pragma once
#include <kontor/kontor.h>

#include <functional>
#include <vector>

#include "tests/catch.h"

namespace kontor {

using Longs = std::vector<int64_t>;
using Doubles = std::vector<double>;

inline Doubles values(const Tensor& t) { return t.cast(DType::F64).to_vector<double>(); }

inline void check_close(const Doubles& got, const Doubles& wanted, double within = 1e-5) {
  REQUIRE(got.size() == wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    INFO(i);
    CHECK(got[i] == Approx(wanted[i]).epsilon(within).margin(within));
  }
}

/// Realized, so that gradients may be taken.
inline Tensor normal(const Shape& shape, double deviation = 1) {
  return Tensor::normal(shape, 0, deviation).realize();
}

/// The slope of `loss` by each element of x.
inline Doubles slopes(Tensor& x, const std::function<Tensor()>& loss, double h = 1e-4) {
  const Doubles at = values(x);
  const Shape shape = x.dims();
  Doubles out;
  for (size_t i = 0; i < at.size(); ++i) {
    double ends[2];
    for (const int side : {0, 1}) {
      Doubles moved = at;
      moved[i] += side ? h : -h;
      x.assign(Tensor::from(moved, shape));
      ends[side] = loss().item<double>();
    }
    out.push_back((ends[1] - ends[0]) / (2 * h));
  }
  x.assign(Tensor::from(at, shape));
  return out;
}

inline void check_gradients(std::vector<Tensor*> of, const std::function<Tensor()>& loss) {
  std::vector<Tensor> leaves;
  for (Tensor* t : of) leaves.push_back(t->realize());
  std::vector<Tensor> found = gradient(loss(), leaves);
  realize_all(std::span(found));
  leaves.clear();
  for (size_t i = 0; i < of.size(); ++i) {
    INFO("input " << i);
    check_close(values(found[i]), slopes(*of[i], loss), 1e-6);
  }
}

}  // namespace kontor
