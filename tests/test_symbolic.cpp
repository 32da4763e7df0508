// [symbolic] Variables as dimensions: what is recorded once for all sizes, as jit does, has at each size the values that
// the same computation of that size has, and schedules nothing for another size.
#include <kontor/kontor.h>

#include <cmath>
#include <functional>

#include "tests/catch.h"
#include "tests/errors.h"

using namespace kontor;

namespace {

struct Row {
  const char* name;
  std::function<Tensor(const Dim&)> of;
  int64_t least = 1;  // size from which on it has a meaning
};

// Small whole numbers, so that sums are exact in any order.
Tensor numbers(const Dim& n) { return (Tensor::arange(n) * 37 % 11 - 5).cast(DType::F32); }
Tensor rows(const Dim& n, int64_t width = 6) {
  return ((Tensor::arange(n).unsqueeze(1) * 5 + Tensor::arange(width) * 3) % 13 - 6).cast(DType::F32);
}
Tensor columns(const Dim& n, int64_t height = 6) { return rows(n, height).transpose(); }
Tensor images(const Dim& n, int64_t size = 7) { return rows(n, 2 * size * size).reshape({n, 2, size, size}); }
Tensor fixed(const Shape& shape) {
  int64_t count = 1;
  for (const Dim& d : shape) count *= d.value();
  return numbers(count).reshape(shape);
}

Tensor gradient_of(const Tensor& weight, const std::function<Tensor(const Tensor&)>& loss) {
  const Tensor w = weight.mark("w");
  return gradient(loss(w), {w})[0];
}

// clang-format off
const Row table[] = {
    {"elementwise",         [](const Dim& n) { return (numbers(n) * 2 + 1).relu() - numbers(n).abs(); }},
    {"broadcast",           [](const Dim& n) { return numbers(n).unsqueeze(1) * numbers(n) + numbers(n); }},
    {"expand",              [](const Dim& n) { return numbers(3).unsqueeze(1).expand({3, n}) + numbers(n); }},
    {"full",                [](const Dim& n) { return Tensor::full({n, 3}, 2.5) + Tensor::zeros({n, 1}); }},
    {"where",               [](const Dim& n) { return where(numbers(n) > 0, numbers(n), -1); }},
    {"sum of all",          [](const Dim& n) { return rows(n).sum(); }},
    {"sum over it",         [](const Dim& n) { return rows(n).sum(0); }},
    {"sum beside it",       [](const Dim& n) { return rows(n, 70).sum(1); }},
    {"sum over it, last",   [](const Dim& n) { return columns(n).sum(1); }},
    {"mean and var",        [](const Dim& n) { return columns(n).mean(1) + columns(n).var(1); }},
    {"prod",                [](const Dim& n) { return (numbers(n) % 2 + 1.5f).prod(); }},
    {"max, min",            [](const Dim& n) { return columns(n).max(1) - rows(n).min(0); }},
    {"argmax",              [](const Dim& n) { return columns(n).argmax(1); }},
    {"argmax of all",       [](const Dim& n) { return rows(n).argmax(); }},
    {"any",                 [](const Dim& n) { return (rows(n) > 5).any(0); }},
    {"softmax over it",     [](const Dim& n) { return columns(n).softmax(1); }},
    {"log_softmax",         [](const Dim& n) { return rows(n).log_softmax(); }},
    {"cross_entropy",       [](const Dim& n) { return cross_entropy(rows(n), Tensor::arange(n) % 6).mean(); }},
    {"layer_norm",          [](const Dim& n) { return rows(n).layer_norm(1, numbers(6), numbers(6)); }},
    {"layer_norm over it",  [](const Dim& n) { return columns(n).layer_norm(); }},
    {"instance_norm",       [](const Dim& n) { return images(n).instance_norm(numbers(2), numbers(2)); }},
    {"matmul, rows",        [](const Dim& n) { return rows(n).matmul(fixed({6, 9})); }},
    {"matmul, inner",       [](const Dim& n) { return columns(n).matmul(rows(n, 5)); }},
    {"matmul, columns",     [](const Dim& n) { return fixed({9, 6}).matmul(columns(n)); }},
    {"matmul, both",        [](const Dim& n) { return rows(n).matmul(columns(n)); }},
    {"matmul, batch",       [](const Dim& n) { return images(n).matmul(images(n).transpose()); }},
    {"conv2d, batch",       [](const Dim& n) { return images(n).conv2d(fixed({3, 2, 3, 3}), numbers(3), 1, 1); }},
    {"conv2d, height",      [](const Dim& n) { return rows(n).reshape({1, 1, n, 6}).conv2d(fixed({2, 1, 3, 3})); }, 3},
    {"conv2d, stride",      [](const Dim& n) { return rows(n).reshape({1, 1, n, 6}).conv2d(fixed({2, 1, 2, 2}), {}, 2); }, 2},
    {"max_pool2d",          [](const Dim& n) { return images(n).max_pool2d(2); }},
    {"avg_pool2d, height",  [](const Dim& n) { return rows(n).reshape({1, 1, n, 6}).avg_pool2d(2); }, 2},
    {"conv1d",              [](const Dim& n) { return conv1d(rows(n).reshape({1, n, 6}).transpose(), fixed({2, 6, 3}), {}, {.stride = {2}}); }, 3},
    {"conv_transpose",      [](const Dim& n) { return conv_transpose(rows(n).reshape({1, 1, n, 6}), fixed({1, 2, 3, 2}), {}, {.stride = {2}}); }, 1},
    {"conv_transpose, batch", [](const Dim& n) { return conv_transpose(images(n), fixed({2, 3, 2, 2}), numbers(3), {.stride = {2}, .padding = {1}}); }},
    {"max_pool, ceil",      [](const Dim& n) { return max_pool(images(n), {3}, {.stride = {2}, .padding = {1}, .ceil = true}); }},
    {"avg_pool, height",    [](const Dim& n) { return avg_pool(rows(n).reshape({1, 1, n, 6}), {2}, {.padding = {1}, .count_padding = false}); }, 1},
    {"batch_norm",          [](const Dim& n) { return batch_norm(images(n), {}, {}, numbers(2)); }, 1},
    {"group_norm",          [](const Dim& n) { return group_norm(images(n), 2); }},
    {"losses",              [](const Dim& n) { return cross_entropy(rows(n), Tensor::arange(n) % 6, {0.25, 3}) + nll(rows(n), Tensor::arange(n) % 6, 2); }},
    {"mse",                 [](const Dim& n) { return mse(rows(n), numbers(6)) + binary_cross_entropy_with_logits(rows(n), rows(n) > 0).mean(); }, 1},
    {"nonzero",             [](const Dim& n) { return nonzero(rows(n) > 2, 9) + masked_select(rows(n), rows(n) > 2, 9).cast(DType::I64); }},
    {"permute",             [](const Dim& n) { return images(n).permute({2, 0, 3, 1}) * 2; }},
    {"flatten",             [](const Dim& n) { return images(n).flatten(1) + 1; }},
    {"flatten with it",     [](const Dim& n) { return images(n).flatten() * 3; }},
    {"reshape, -1",         [](const Dim& n) { return rows(n).reshape({-1, 3}).sum(0); }},
    {"reshape, joined",     [](const Dim& n) { return rows(n).softmax().reshape({3, -1}).sum(1); }},
    {"pad",                 [](const Dim& n) { return rows(n).pad({1, 2, 0, 3}, 0.5); }},
    {"flip",                [](const Dim& n) { return rows(n).flip({0, 1}) - rows(n); }},
    {"slice beside it",     [](const Dim& n) { return rows(n).slice(1, 1, 6, 2); }},
    {"select beside it",    [](const Dim& n) { return rows(n).select(1, -2); }},
    {"select of it",        [](const Dim& n) { return rows(n).softmax().select(0, 0); }},
    {"window",              [](const Dim& n) { return (numbers(n) * 2).window(0, 3, 2).sum(1); }, 3},
    {"window, overlapping", [](const Dim& n) { return columns(n).window(1, 2) * numbers(2); }, 2},
    {"unwindow",            [](const Dim& n) { return numbers(n).unsqueeze(1).expand({n, 3}).unwindow(0, 50).sum(1); }},
    {"cat",                 [](const Dim& n) { return cat({rows(n), fixed({2, 6}), rows(n)}, 0); }},
    {"stack",               [](const Dim& n) { return stack({numbers(n), numbers(n) * 2}, 1); }},
    {"take from a table",   [](const Dim& n) { return fixed({7, 4}).take(Tensor::arange(n) % 7 - 7); }},
    {"take from it",        [](const Dim& n) { return rows(n).softmax().take(Tensor::arange(4) % 2 - 1); }, 2},
    {"pick",                [](const Dim& n) { return rows(n).pick(Tensor::arange(n) % 6); }},
    {"put",                 [](const Dim& n) { return rows(n).put(1, 2, numbers(n)); }},
    {"put into it",         [](const Dim& n) { return rows(n).put(0, 0, numbers(6)); }},
    {"one_hot",             [](const Dim& n) { return (Tensor::arange(n) % 5).one_hot(5); }},
    {"uniform",             [](const Dim& n) { return Tensor::uniform({n, 3}); }},
    {"normal",              [](const Dim& n) { return Tensor::normal({n}).cast(DType::F64); }},
    {"randint",             [](const Dim& n) { return Tensor::randint({n}, 0, 100); }},
    {"two reductions",      [](const Dim& n) { return (columns(n) - columns(n).max(1, true)).exp().sum(1); }},
    {"it as a number",      [](const Dim& n) { return numbers(n).mean() + rows(n).sum(0).mean(); }},
    {"gradient of matmul",  [](const Dim& n) { return gradient_of(fixed({6, 4}), [&](const Tensor& w) { return rows(n).matmul(w).square().sum(); }); }},
    {"gradient of conv2d",  [](const Dim& n) { return gradient_of(fixed({3, 2, 3, 3}), [&](const Tensor& w) { return images(n).conv2d(w).relu().sum(); }); }},
    {"gradient of a loss",  [](const Dim& n) { return gradient_of(fixed({6, 4}) * 0.1, [&](const Tensor& w) { return cross_entropy(rows(n).matmul(w), Tensor::arange(n) % 4).mean(); }); }},
    {"gradient of take",    [](const Dim& n) { return gradient_of(fixed({5, 3}), [&](const Tensor& w) { return (w.take(Tensor::arange(n) % 5) * numbers(n).unsqueeze(1)).sum(); }); }},
    {"gradient of max",     [](const Dim& n) { return gradient_of(fixed({6}), [&](const Tensor& w) { return (rows(n) * w).max(0).sum(); }); }},
};
// clang-format on

std::string text(const std::vector<int64_t>& shape) {
  std::string out;
  for (int64_t d : shape) out += std::to_string(d) + " ";
  return out;
}

/// "" if shape, dtype and values agree, values but for the order of sums.
std::string difference(const Tensor& got, const Tensor& wanted) {
  if (got.dtype() != wanted.dtype()) return "another dtype";
  if (got.shape() != wanted.shape()) return "shape " + text(got.shape()) + "not " + text(wanted.shape());
  const std::vector<double> a = got.to_vector<double>(), b = wanted.to_vector<double>();
  for (size_t i = 0; i < a.size(); i++)
    if (!(std::abs(a[i] - b[i]) <= 2e-6 * std::max(1.0, std::abs(b[i]))))
      return "element " + std::to_string(i) + " is " + std::to_string(a[i]) + ", not " + std::to_string(b[i]);
  return "";
}

/// Every row, or one in `one_in` where compiling takes long.
void check_rows(const std::string& device, int one_in = 1) {
  Context symbolic({.device = device, .threads = 2, .seed = 3}), oracle({.device = "interp", .seed = 3});
  int number = 0;
  for (const Row& row : table) {
    if (number++ % one_in != 0) continue;
    Variable n("n", row.least, 40);
    auto f = jit([&] { return row.of(n); });
    uint64_t schedules = 0;
    for (int64_t size : {row.least, row.least + 1, int64_t{8}, int64_t{13}, int64_t{40}, row.least}) {
      n.set(size);
      INFO(row.name << " of " << size << " on " << device);
      Tensor got, wanted;
      {
        Context::Use use(symbolic);
        symbolic.set_random_counter(100);
        got = f().realize();
        symbolic.synchronise();
        if (schedules == 0) schedules = symbolic.counters().schedules;
        CHECK(symbolic.counters().schedules == schedules);
      }
      Context::Use use(oracle);
      oracle.set_random_counter(100);
      wanted = row.of(size).realize();
      CHECK(difference(got, wanted) == "");
    }
  }
}

}  // namespace

TEST_CASE("[symbolic] one recording has the values of every size: interp") { check_rows("interp"); }

TEST_CASE("[symbolic] one recording has the values of every size: llvm") {
  if (!error_of([] { Context({.device = "llvm"}); }).empty()) KONTOR_SKIP("the llvm device does not open");
  check_rows("llvm");
}

TEST_CASE("[symbolic] one recording has the values of every size: opencl") {
  const std::string why = error_of([] { Context({.device = "opencl"}); });
  if (!why.empty()) KONTOR_SKIP(why);
  check_rows("opencl", 4);
}
