// Folds whose state has parts: all rows of the table on all devices, and what they come to against loops.
#include <algorithm>
#include <cmath>
#include <limits>

#include "codegen/tree/tree.h"
#include "graph/index/index.h"
#include "graph/recording.h"
#include "graph/transforms/gradient.h"
#include "tests/catch.h"
#include "tests/everywhere.h"
#include "tests/run_graph.h"
#include "tests/thinned.h"

namespace kontor {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity(),
                 nan = std::numeric_limits<double>::quiet_NaN();

struct Case {
  std::vector<int64_t> shape;
  Ints axes;
};

/// All parts of a fold as outputs of one graph.
struct AllParts {
  Graph graph;
  std::vector<Array> inputs = {};

  AllParts(Fold fold, DType dtype, const Case& c) {
    Dims dims;
    for (int64_t d : c.shape) dims.push_back(index(d));
    std::vector<Ref> values, outputs;
    for (size_t i = 0; i < static_cast<size_t>(row(fold).arity); i++)
      values.push_back(buffer_leaf(value_dtype(fold, dtype, i), dims, {}, fresh_id(), 0));
    for (size_t i = 0; i < parts(fold); i++) outputs.push_back(fn::part_of(fold, i, values, c.axes, false));
    graph = make_graph(outputs);
    for (const Ref& leaf : graph.inputs)
      inputs.push_back(random_array(leaf->dtype, c.shape, inputs.size() + 7));
  }
};

size_t folds_in(const Schedule& schedule) {
  size_t count = 0;
  for (const ScheduledKernel& k : schedule.kernels)
    for (const Node* n : topological(std::span(&k.tree, 1)))
      count += n->op == Op::Place && tree::has_fold(*n);
  return count;
}

/// numpy's: the first NaN, else the first of the furthest.
int64_t furthest(std::span<const double> row, bool greatest) {
  size_t best = 0;
  for (size_t i = 0; i < row.size(); i++) {
    if (std::isnan(row[i])) return static_cast<int64_t>(i);
    if (greatest ? row[i] > row[best] : row[i] < row[best]) best = i;
  }
  return static_cast<int64_t>(best);
}

}  // namespace

TEST_CASE(
    "[folds] every fold has the evaluator's bits on each device, all parts of it in one kernel and pass") {
  const Case cases[] = {
      {{3, 70}, {1}}, {{70, 3}, {0}}, {{2, 5, 40}, {1, 2}}, {{4, 9}, {1}}, {{1, 263000}, {1}}};
  for (size_t f = 0; f < folds().size(); f++)
    for (DType dtype : {DType::F32, DType::F64})
      for (const Case& c : cases) {
        const Fold fold = static_cast<Fold>(f);
        if (!row(fold).splits || state_dtype(fold, dtype) != dtype ||
            (dtype == DType::F64 && c.shape[1] > 1000))
          continue;
        if (sanitized && c.shape[1] > 1000 && fold != Fold::Sum) continue;
        const AllParts all(fold, dtype, c);
        const Evaluation wanted = evaluate_graph(all.graph, all.inputs);
        for (const char* name : {"interp", "llvm", "opencl", "c"}) {
          Backend* backend = device(name);
          if (!backend) continue;
          INFO(row(fold).name << " of " << kontor::name(dtype) << ", " << c.shape.size() << " axes, on "
                              << name);
          const Run run = run_graph(all.graph, *backend, all.inputs);
          CHECK(difference(run, wanted) == "");
          CHECK(run.schedule.kernels.size() == (c.shape[1] > 1000 ? 2 : 1));
          if (parts(fold) > 1 && c.shape[1] < 1000) CHECK(folds_in(run.schedule) == 1);
        }
      }
}

TEST_CASE("[folds] argmax and argmin: ties, zeros of both signs, infinities and NaN, in lanes and without") {
  const std::vector<double> some = {0.0, -0.0, 1.5, -2, infinity, -infinity, nan};
  for (DType dtype : {DType::F32, DType::F64, DType::F16, DType::BF16, DType::F8E5M2, DType::F8E4M3,
                      DType::I32, DType::I8, DType::U8, DType::U64, DType::Bool})
    for (int64_t length : {1, 5, 64, 65, 200})
      for (size_t kinds = sanitized ? some.size() : 1; kinds <= some.size(); kinds++) {
        std::vector<double> values;
        for (int64_t i = 0; i < 4 * length; i++)
          values.push_back(some[static_cast<size_t>(i * i + i / 3) % kinds]);
        const Array x = array_of(dtype, {4, length}, values);
        const std::vector<double> rounded = doubles(x);
        for (bool greatest : {true, false}) {
          std::vector<double> wanted;
          for (int64_t r = 0; r < 4; r++)
            wanted.push_back(static_cast<double>(furthest(
                std::span(rounded).subspan(static_cast<size_t>(r * length), static_cast<size_t>(length)),
                greatest)));
          const Body body = [&](const std::vector<Ref>& in) {
            return greatest ? fn::argmax(in[0], 1, false) : fn::argmin(in[0], 1, false);
          };
          for (const Found& found : everywhere(body, {x}, length % 64 != 0 && kinds == some.size())) {
            INFO(found.where << ": " << name(dtype) << "[4, " << length << "], " << kinds << " values");
            CHECK(doubles(found.value) == wanted);
          }
        }
      }
}

TEST_CASE("[folds] logsumexp against a loop over doubles") {
  for (int64_t length : {1, 9, 64, 300, 140000}) {
    std::vector<double> values;
    for (int64_t i = 0; i < 2 * length; i++) values.push_back(std::sin(static_cast<double>(i)) * 40);
    const Array x = array_of(DType::F32, {2, length}, values);
    const std::vector<double> rounded = doubles(x);
    const auto body = [](const std::vector<Ref>& in) {
      return fn::logsumexp(in[0], AxisList(Ints{1}), false);
    };
    for (const Found& found : everywhere(body, {x}))
      for (int64_t r = 0; r < 2; r++) {
        long double sum = 0;
        for (int64_t i = 0; i < length; i++)
          sum += std::exp(static_cast<long double>(rounded[static_cast<size_t>(r * length + i)]));
        INFO(found.where << ": " << length);
        CHECK(std::abs(doubles(found.value)[static_cast<size_t>(r)] - static_cast<double>(std::log(sum))) <
              1e-5);
      }
  }
}

TEST_CASE("[folds] var of long rows against a loop over doubles") {
  std::vector<double> values;
  for (int64_t i = 0; i < 150000; i++) values.push_back(1000 + std::sin(static_cast<double>(i * i % 1001)));
  const Array x = array_of(DType::F32, {150000}, values);
  double mean = 0, squares = 0;
  for (double v : doubles(x)) mean += v / 150000;
  for (double v : doubles(x)) squares += (v - mean) * (v - mean) / 150000;
  const auto body = [](const std::vector<Ref>& in) { return fn::var(in[0], {}, false, 0); };
  for (const Found& found : everywhere(body, {x}))
    CHECK(std::abs(doubles(found.value)[0] - squares) < 2e-6 * squares);
}

TEST_CASE("[folds] the slopes of parts, by finite differences") {
  const std::vector<int64_t> shape = {3, 7};
  for (Fold fold : {Fold::SoftmaxStats, Fold::Moments})
    for (size_t part = 0; part < parts(fold); part++) {
      std::vector<Ref> leaves, wrt;
      std::vector<Array> inputs;
      for (size_t i = 0; i < static_cast<size_t>(row(fold).arity); i++) {
        leaves.push_back(buffer_leaf(DType::F64, {index(3), index(7)}, {}, fresh_id(), 0));
        std::vector<double> values;
        for (int64_t k = 0; k < 21; k++)
          values.push_back(1.5 + std::sin(static_cast<double>(k * 3) + static_cast<double>(i)));
        inputs.push_back(array_of(DType::F64, shape, values));
        if (fold != Fold::Moments || i > 0) wrt.push_back(leaves.back());
      }
      const size_t skipped = leaves.size() - wrt.size();
      const Ref loss = fn::sum(
          fn::mul(fn::part_of(fold, part, leaves, {1}, false), fn::iota(index(3), DType::F64)), {}, false);
      const auto value = [&](const std::vector<Ref>& outputs, const std::vector<Array>& given) {
        const Graph graph = make_graph(outputs);
        std::vector<Array> ordered;
        for (const Ref& leaf : graph.inputs)
          ordered.push_back(
              given[static_cast<size_t>(std::find(leaves.begin(), leaves.end(), leaf) - leaves.begin())]);
        return evaluate_graph(graph, ordered).outputs;
      };
      const std::vector<Array> slopes = value(gradient(loss, wrt), inputs);
      for (size_t i = 0; i < wrt.size(); i++)
        for (int64_t k = 0; k < 21; k++) {
          constexpr double step = 1e-6;
          double ends[2];
          for (int side : {0, 1}) {
            std::vector<Array> moved = inputs;
            Array& a = moved[i + skipped];
            a.set(k, from_double(DType::F64, to_double(DType::F64, a.get(k)) + (side ? step : -step)));
            ends[side] = doubles(value({loss}, moved)[0])[0];
          }
          INFO(part_name(fold, part) << ", value " << i + skipped << ", element " << k);
          CHECK(std::abs(doubles(slopes[i])[static_cast<size_t>(k)] - (ends[1] - ends[0]) / (2 * step)) <
                1e-5);
        }
    }
}

}  // namespace kontor
