// Runs what Tensors record every way down (loop trees for several machines on the interpreter, LLVM for each instruction set
// of this processor) and compares each with evaluate_graph, which knows no lowering.
#pragma once
#include <kontor/kontor.h>

#include <memory>
#include <string>
#include <vector>

#include "backends/backend.h"

namespace kontor {

/// The llvm device for an instruction set.
struct Cpu {
  std::string name;
  std::unique_ptr<Backend> backend;
};
/// One for each that this processor has; none without LLVM.
const std::vector<Cpu>& cpus();

enum class Down { Trees, TreesAndLlvm };

/// "" if every way gives the bits of evaluate_graph; else the way, and what differs or is thrown.
std::string every_way(const std::vector<Tensor>& outputs, Down down = Down::Trees);

/// A leaf. Its value when it is run is small whole numbers, so that sums are exact in any order.
Tensor leaf(const std::vector<int64_t>& shape, DType dtype = DType::F32);

/// Calls f(shape) with every shape of this rank whose extents are among `extents`.
template <class F>
void for_each_shape(size_t rank, const std::vector<int64_t>& extents, const F& f) {
  std::vector<size_t> at(rank);
  for (bool more = true; more;) {
    std::vector<int64_t> shape;
    for (size_t i : at) shape.push_back(extents[i]);
    f(shape);
    more = false;
    for (size_t i = rank; i-- > 0 && !more;) more = ++at[i] < extents.size() || (at[i] = 0);
  }
}

}  // namespace kontor
