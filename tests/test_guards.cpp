// [guards] What is guarded where it is read stays guarded when what computes it joins the kernel of its reader: a pad, a
// slice's gradient, an unwindow or a put behind each kind of producer, over all small shapes.
#include "graph/functions/functions.h"
#include "graph/recording.h"
#include "tests/catch.h"
#include "tests/every_way.h"
#include "tests/thinned.h"

using namespace kontor;

namespace {

using Values = std::vector<float>;

struct Producer {
  const char* name;
  Tensor (*of)(const Tensor& x, int64_t axis);
};

// What is stored, and so may be fused at a loop that an axis of 1 does not have.
const Producer producers[] = {
    {"sum", [](const Tensor& x, int64_t a) { return x.sum(a, true); }},
    {"max", [](const Tensor& x, int64_t a) { return x.max(a, true); }},
    {"min", [](const Tensor& x, int64_t a) { return x.min(a, true); }},
    {"prod", [](const Tensor& x, int64_t a) { return x.prod(a, true); }},
    {"any", [](const Tensor& x, int64_t a) { return (x > 0).any(a, true).cast(DType::F32); }},
    {"argmax", [](const Tensor& x, int64_t a) { return x.argmax(a, true).cast(DType::F32); }},
    {"var", [](const Tensor& x, int64_t a) { return x.var(a, true); }},
    {"softmax", [](const Tensor& x, int64_t a) { return x.softmax(a); }},
    {"matmul", [](const Tensor& x, int64_t) { return x.matmul(x.transpose()); }},
    {"map of sums", [](const Tensor& x, int64_t a) { return x.sum(a, true).exp() + x; }},
    {"sum and flip", [](const Tensor& x, int64_t a) { return x.sum(a, true).flip(1 - a); }},
};

struct Consumer {
  const char* name;
  Tensor (*of)(const Tensor& y, int64_t axis);
};

std::vector<int64_t> around(int64_t axis, int64_t low, int64_t high) {
  return axis == 0 ? std::vector<int64_t>{low, high, 0, 0} : std::vector<int64_t>{0, 0, low, high};
}

// Slices of one half, put back where they were: the loop has the extent of the producer again, and half of it is guarded.
Tensor half_zeroed(const Tensor& y, int64_t axis, int64_t kept) {
  const int64_t n = y.size(axis);
  return y.slice(axis, 0, std::min(kept, n)).pad(around(axis, 0, n - std::min(kept, n)));
}

const Consumer consumers[] = {
    {"pad after", [](const Tensor& y, int64_t a) { return y.pad(around(a, 0, 2)); }},
    {"pad before", [](const Tensor& y, int64_t a) { return y.pad(around(a, 1, 0)); }},
    {"pad all", [](const Tensor& y, int64_t) { return y.pad({1, 2, 2, 1}); }},
    {"pad with 7", [](const Tensor& y, int64_t a) { return y.pad(around(a, 0, 1), 7); }},
    {"zero half", [](const Tensor& y, int64_t a) { return half_zeroed(y, a, 1); }},
    {"pad and exp", [](const Tensor& y, int64_t a) { return y.pad(around(a, 0, 2)).exp(); }},
    {"pad and sum", [](const Tensor& y, int64_t a) { return y.pad(around(a, 1, 1)).sum(); }},
    {"pad and rows", [](const Tensor& y, int64_t a) { return y.pad(around(a, 1, 1)).sum(1 - a, true); }},
    {"cat", [](const Tensor& y, int64_t a) { return cat({y, y * 2}, a); }},
    {"put",
     [](const Tensor& y, int64_t a) { return (y.pad(around(a, 0, 1)) * 0 + 5).put(a, 0, y.select(a, 0)); }},
    {"unwindow", [](const Tensor& y, int64_t) { return y.unsqueeze(1).unwindow(0, y.size(0) + 1); }},
    {"used twice",
     [](const Tensor& y, int64_t a) { return y.pad(around(a, 0, 1)) + half_zeroed(y, a, 1).sum(); }},
};

/// What each pair gives; a line for each that differs, the first ones.
std::string sweep(const std::vector<int64_t>& extents, Down down, DType dtype = DType::F32) {
  std::string found;
  int count = 0;
  for_each_shape(2, extents, [&](const std::vector<int64_t>& shape) {
    for (const Producer& p : producers)
      for (const Consumer& c : consumers)
        for (int64_t axis : {0, 1})
          for (int64_t padded : {0, 1}) {
            if (down == Down::TreesAndLlvm && (axis == 0 || padded == 0))
              continue;  // compiling takes its time
            const Tensor x = leaf(shape, dtype);
            const std::string d = every_way({c.of(p.of(x, axis), padded)}, down);
            if (d.empty()) continue;
            if (count++ < 3)
              found += "[" + std::to_string(shape[0]) + ", " + std::to_string(shape[1]) + "] " + p.name +
                       " " + std::to_string(axis) + ", " + c.name + " " + std::to_string(padded) + ": " + d +
                       "\n";
          }
  });
  return count ? std::to_string(count) + " differ\n" + found : "";
}

}  // namespace

TEST_CASE("[guards] a reduction that keeps its axis, then a pad") {
  Context context({.device = "interp"});
  Context::Use use(context);
  const Tensor x = Tensor::from({1, 2, 3, 4, 5, 6}, {2, 3}).realize();
  CHECK(x.sum(1, true).pad({0, 0, 0, 2}).to_vector<float>() == Values{6, 0, 0, 15, 0, 0});
  CHECK(x.max(1, true).pad({0, 0, 0, 2}).to_vector<float>() == Values{3, 0, 0, 6, 0, 0});
  CHECK(x.var(1, true).pad({0, 0, 1, 0}).to_vector<float>() == Values{0, 2 / 3.f, 0, 2 / 3.f});
  CHECK(x.argmax(1, true).pad({0, 0, 0, 1}).to_vector<int64_t>() == std::vector<int64_t>{2, 0, 2, 0});
  const Tensor row = Tensor::from({1, 2, 3}, {3}).realize();
  CHECK(row.sum(0, true).pad({1, 1}).sum().item<float>() == 6);
}

TEST_CASE("[guards] the gradient of a slice that is broadcast") {
  Context context({.device = "interp"});
  Context::Use use(context);
  const Tensor x = Tensor::ones({2, 3}).realize(), z = Tensor::ones({2, 4}).realize();
  const Tensor loss = (x.slice(1, 0, 1) * z).sum();
  CHECK(gradient(loss, {x})[0].to_vector<float>() == Values{4, 0, 0, 4, 0, 0});
}

TEST_CASE("[guards] every producer before every guarded read, small shapes") {
  CHECK(sweep(sanitized ? std::vector<int64_t>{1, 3} : std::vector<int64_t>{1, 2, 3}, Down::Trees) == "");
}

TEST_CASE("[guards] every producer before every guarded read, about a vector's width") {
  CHECK(sweep({17}, Down::Trees) == "");
  if (!sanitized) CHECK(sweep({9}, Down::Trees, DType::F64) == "");
}

TEST_CASE("[guards] every producer before every guarded read, native code") {
  CHECK(sweep({3}, Down::TreesAndLlvm) == "");
}

TEST_CASE("[guards] gradients of slices, pads and windows of what is folded or broadcast, small shapes") {
  std::string found;
  int count = 0;
  for_each_shape(2, {1, 2, 3}, [&](const std::vector<int64_t>& shape) {
    for (int64_t wide : {1, 2, 4})
      for (int64_t axis : {0, 1}) {
        const Tensor x = leaf(shape),
                     z = leaf({shape[0] * (axis == 0 ? wide : 1), shape[1] * (axis == 1 ? wide : 1)});
        const Tensor one = x.slice(axis, 0, 1), mean = x.sum(axis, true);
        const Tensor first = one.expand(axis == 0 ? Shape{z.size(0), shape[1]} : Shape{shape[0], z.size(1)});
        for (const Tensor& loss :
             {(first * z).sum(), (first * z).sum(axis).square().sum(),
              (mean.pad(around(axis, 0, wide - 1)) * mean).sum(),
              (x.window(axis, 1).sum(axis + 1).slice(axis, 0, 1) * z.sum(axis, true)).sum()}) {
          const std::string d = every_way(gradient(loss, {x, z}));
          if (!d.empty() && count++ < 3) found += d + "\n";
        }
      }
  });
  CHECK(std::to_string(count) + " differ\n" + found == "0 differ\n");
}

TEST_CASE("[guards] a dot has no term where an unwindow has no element, whatever the other factor is there") {
  std::string found;
  int count = 0;
  for (int64_t taps : {1, 2, 3})
    for (int64_t stride : {1, 2, 3})
      for (int64_t dilation : {1, 2})
        for (const Ints& axes : {Ints{1}, Ints{2}, Ints{1, 2}, Ints{0}}) {
          const Ref x = Recording::node(leaf({3, taps, 2}));
          const Ref spread = fn::unwindow(x, 0, index(7), stride, dilation);
          const Ref infinite = fn::div(Recording::node(leaf({7, taps, 2})), 0.0);
          const Ref padded = fn::pad(spread, {1, 0, 0, 0, 0, 0}, 0.0);
          const Ref more = fn::div(Recording::node(leaf({8, taps, 2})), 0.0);
          for (const auto& [a, b] : {std::pair{spread, infinite}, std::pair{padded, more}}) {
            const std::string d = every_way({Recording::tensor(fn::reduce(Fold::Dot, {a, b}, axes, false))});
            if (!d.empty() && count++ < 3) found += d + "\n";
          }
        }
  CHECK(std::to_string(count) + " differ\n" + found == "0 differ\n");
}
