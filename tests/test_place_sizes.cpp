// [places] Accesses of different widths to one place of a kernel: in its memory, and each row apart from the next. Native
// code of both instruction sets against evaluate_graph.
#include "tests/catch.h"
#include "tests/every_way.h"
#include "tests/thinned.h"

using namespace kontor;

namespace {

struct Part {
  const char* name;
  Tensor (*of)(const Tensor& x);
};

// What makes y out of a: maps, copies side by side, rows that are folded.
const Part first_parts[] = {
    {"softmax", [](const Tensor& a) { return a.softmax(2); }},
    {"cat", [](const Tensor& a) { return cat({a, a}, 2); }},
    {"mul", [](const Tensor& a) { return a * 2; }},
    {"pad", [](const Tensor& a) { return a.pad({0, 0, 0, 0, 0, 2}); }},
    {"log_softmax", [](const Tensor& a) { return a.log_softmax(2); }},
};
// What stands on the other side of the product.
const Part second_parts[] = {
    {"relu", [](const Tensor& y) { return y.relu(); }},
    {"relu + 1", [](const Tensor& y) { return y.relu() + 1; }},
    {"itself", [](const Tensor& y) { return y; }},
};

/// Programs of a product of what was made and read twice, over shapes [n, 1, width].
std::string products(const std::vector<int64_t>& widths, DType dtype, Down down) {
  int count = 0;
  std::string found;
  for (int64_t n : {2, 3})
    for (int64_t width : widths)
      for (const Part& f : first_parts)
        for (const Part& s : second_parts) {
          const Tensor y = f.of(leaf({n, 1, width}, dtype));
          const std::string d = every_way({y.transpose().matmul(s.of(y))}, down);
          if (!d.empty() && count++ < 2)
            found += std::string(f.name) + ", " + s.name + " [" + std::to_string(n) + ", 1, " +
                     std::to_string(width) + "]: " + d + "\n";
        }
  return count ? std::to_string(count) + " differ\n" + found : "";
}

/// A product times a transposed view, whose square blocks are turned in registers: rows, columns a shape.
std::string transposed(const std::vector<int64_t>& rows, const std::vector<int64_t>& columns, DType dtype) {
  int count = 0;
  std::string found;
  for (int64_t m : rows)
    for (int64_t n : columns) {
      const Tensor y = leaf({m, 1}, dtype).matmul(leaf({1, n}, dtype)) * leaf({n, m}, dtype).transpose();
      const std::string d = every_way({y}, Down::TreesAndLlvm);
      if (!d.empty() && count++ < 2)
        found += "[" + std::to_string(m) + ", " + std::to_string(n) + "]: " + d + "\n";
    }
  return count ? std::to_string(count) + " differ\n" + found : "";
}

}  // namespace

TEST_CASE("[places] a softmax and a cat that are read by lanes of two widths") {
  const Tensor y = leaf({2, 1, 18}).softmax(2);
  CHECK(every_way({y.transpose().matmul(y.relu() + 1)}, Down::TreesAndLlvm) == "");
  const Tensor a = leaf({3, 1, 5}), z = cat({a, a}, 2);
  CHECK(every_way({z.transpose().matmul(z.relu())}, Down::TreesAndLlvm) == "");
}

TEST_CASE("[places] maps, copies and folds into a product, f32") {
  CHECK(
      products(sanitized ? std::vector<int64_t>{1, 9, 17} : std::vector<int64_t>{1, 5, 8, 9, 15, 17, 18, 33},
               DType::F32, Down::TreesAndLlvm) == "");
}

TEST_CASE("[places] maps, copies and folds into a product, f64") {
  CHECK(products({3, 5, 7, 9, 17}, DType::F64, Down::TreesAndLlvm) == "");
}

TEST_CASE("[places] a product times a transposed view, f64") {
  CHECK(transposed({4, 8, 12, 16, 17}, {4, 7, 8, 9, 15, 16, 17, 32}, DType::F64) == "");
}

TEST_CASE("[places] a product times a transposed view, f32") {
  CHECK(transposed({8, 16, 24}, {8, 16, 31, 32, 33, 64}, DType::F32) == "");
}

TEST_CASE("[places] the gradient of a convolution with weights for each output, f64") {
  for (int64_t out : sanitized ? std::vector<int64_t>{24} : std::vector<int64_t>{16, 24})
    for (int64_t width : {16, 18}) {
      const Tensor x = leaf({2, 3, 6, width}, DType::F64), w = leaf({out, 3, 3, 3}, DType::F64);
      const Tensor y = x.conv2d(w, {}, 2), m = leaf(y.shape(), DType::F64);
      INFO(out << " output channels, width " << width);
      CHECK(every_way(gradient((y.square() * m).sum(), {x, w}), Down::TreesAndLlvm) == "");
    }
}
