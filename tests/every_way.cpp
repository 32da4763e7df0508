// See every_way.h.
#include "tests/every_way.h"

#include <cstdlib>
#include <memory>

#include "backends/gpu.h"
#include "base/threefry.h"
#include "graph/recording.h"
#include "graph/text/text.h"
#include "tests/run_graph.h"

namespace kontor {

namespace {

struct Machine {
  std::string name;
  Target target;
};

/// What the interpreter is given trees for: both instruction sets and both kinds of GPU.
const std::vector<Machine>& machines() {
  static const std::vector<Machine> all = {
      {"trees for AVX-512", {.threads = 2}},
      {"trees for AVX2", {.vector_bytes = 32, .vector_registers = 16, .place_bytes = 4096, .threads = 4}},
      {"trees for OpenCL", gpu_target(int64_t{8} << 30)},
      {"trees for CUDA", cuda_target(int64_t{8} << 30)},
  };
  return all;
}

Array small_numbers(DType dtype, std::vector<int64_t> shape, uint64_t seed) {
  Array a = Array::make(dtype, std::move(shape));
  for (int64_t i = 0; i < a.size(); i++) {
    const int64_t value = static_cast<int64_t>(random_bits64(seed, static_cast<uint64_t>(i)) % 7) - 3;
    a.set(i, is_float(dtype) ? from_double(dtype, static_cast<double>(value))
                             : from_int(dtype, kind(dtype) == Kind::Signed ? value : std::abs(value)));
  }
  return a;
}

template <class F>
std::string one_way(const std::string& name, const Evaluation& wanted, const F& run) {
  std::string found;
  try {
    found = difference(run(), wanted);
  } catch (const std::exception& thrown) {
    found = std::string("throws: ") + thrown.what();
  }
  return found.empty() ? "" : name + ": " + found;
}

}  // namespace

const std::vector<Cpu>& cpus() {
  static const std::vector<Cpu> all = [] {
    std::vector<Cpu> out;
    for (const char* name : {"avx2", "avx512"}) {
      ::setenv("KONTOR_CPU", name, 1);
      try {
        out.push_back({name, open_backend("llvm")});
      } catch (const Error&) {}  // not here
      ::unsetenv("KONTOR_CPU");
    }
    return out;
  }();
  return all;
}

std::string every_way(const std::vector<Tensor>& outputs, Down down) {
  std::vector<Ref> nodes;
  for (const Tensor& t : outputs) nodes.push_back(Recording::node(t));
  const Graph graph = make_graph(nodes);
  std::vector<Array> inputs;
  for (const Ref& input : graph.inputs)
    inputs.push_back(small_numbers(input->dtype, static_shape(*input), 11 + inputs.size()));
  const Evaluation wanted = evaluate_graph(graph, inputs);
  std::string found;
  auto add = [&](const std::string& one) { found += one.empty() || found.empty() ? one : "\n" + one; };
  for (const Machine& m : machines())
    add(one_way(m.name, wanted, [&] { return run_trees(graph, m.target, inputs); }));
  if (down == Down::TreesAndLlvm)
    for (const Cpu& cpu : cpus())
      add(one_way("llvm, " + cpu.name, wanted, [&] { return run_graph(graph, *cpu.backend, inputs); }));
  return found.empty() ? "" : found + "\n" + print(graph);
}

Tensor leaf(const std::vector<int64_t>& shape, DType dtype) {
  std::vector<Ref> dims;
  for (int64_t d : shape) dims.push_back(index(d));
  return Recording::tensor(make(Op::Buffer, std::move(dims), {.ints = {fresh_id(), 0}}, dtype));
}

}  // namespace kontor
