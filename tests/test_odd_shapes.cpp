// [shapes] Dimensions of 1 that stand anywhere, one image or channel, dtypes of other widths behind a product: what is
// scheduled for them is right on every way down.
#include "tests/catch.h"
#include "tests/every_way.h"

using namespace kontor;

namespace {

/// Lines for the first few that differ, and how many do.
struct Found {
  int count = 0, tried = 0;
  std::string lines = {};

  void add(const std::string& what, const std::string& difference) {
    tried++;
    if (difference.empty() || count++ >= 3) return;
    lines += what + ": " + difference + "\n";
  }
  std::string text() const { return count ? std::to_string(count) + " differ\n" + lines : ""; }
};

std::string describe(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (int64_t d : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(d);
  return out + "]";
}

Shape with_one(const Tensor& x, int64_t at) {
  Shape shape = x.dims();
  shape.insert(shape.begin() + at, 1);
  return shape;
}

Tensor pooled(const Tensor& x) { return x.mean({2, 3}); }

}  // namespace

TEST_CASE("[shapes] a product, then a dimension of 1 or more beside its own") {
  Found found;
  for_each_shape(3, {1, 2, 3, 17}, [&](const std::vector<int64_t>& s) {  // m, k, n
    const Tensor y = leaf({s[0], s[1]}).matmul(leaf({s[1], s[2]}));
    for (int64_t at : {0, 1, 2}) {
      const std::string where = describe(s) + " 1 at " + std::to_string(at);
      found.add(where, every_way({y.reshape(with_one(y, at))}));
      found.add(where + ", relu", every_way({y.unsqueeze(at).relu() + 1}));
      Shape wide = with_one(y, at);
      wide[static_cast<size_t>(at)] = 5;
      found.add(where + ", expanded", every_way({y.unsqueeze(at).expand(wide) * 2}));
    }
    found.add(describe(s) + " stacked", every_way({stack({y, y + 1}, -1)}));
    found.add(describe(s) + " two ones", every_way({y.unsqueeze(-1).unsqueeze(0).unsqueeze(-1) + 1}));
  });
  CHECK(found.text() == "");
  CHECK(found.tried == 64 * 11);
}

TEST_CASE("[shapes] a product with a trailing 1, native code") {
  Found found;
  for (const std::vector<int64_t>& s : {std::vector<int64_t>{4, 3, 4}, {1, 17, 33}, {17, 2, 1}, {9, 9, 16}}) {
    const Tensor y = leaf({s[0], s[1]}).matmul(leaf({s[1], s[2]}));
    found.add(describe(s), every_way({y.unsqueeze(-1)}, Down::TreesAndLlvm));
    found.add(describe(s) + " stacked", every_way({stack({y, y * 2}, -1)}, Down::TreesAndLlvm));
  }
  CHECK(found.text() == "");
}

TEST_CASE(
    "[shapes] convolutions of one image, one channel, one output channel or one a group, with padding") {
  Found found;
  for (int64_t images : {1, 2})
    for (int64_t groups : {1, 2})
      for (int64_t in : {1, 2})
        for (int64_t out : {1, 2})
          for (int64_t padding : {0, 1})
            for (int64_t size : {3})
              for (int64_t stride : {1, 2}) {
                const Tensor x = leaf({images, in * groups, 5, 7}), w = leaf({out * groups, in, size, size});
                const Tensor y = x.conv2d(w, {}, stride, padding, 1, groups);
                const std::string what = "images " + std::to_string(images) + ", groups " +
                                         std::to_string(groups) + ", in " + std::to_string(in) + ", out " +
                                         std::to_string(out) + ", padding " + std::to_string(padding) +
                                         ", taps " + std::to_string(size) + ", stride " +
                                         std::to_string(stride);
                found.add(what, every_way({y}));
                found.add(what + ", then 1", every_way({y.unsqueeze(-1) * 2}));
                found.add(what + ", padded first",
                          every_way({x.exp().conv2d(w, {}, stride, padding, 1, groups)}));
                found.add(what + ", gradient", every_way(gradient(y.square().sum(), {x, w})));
              }
  CHECK(found.text() == "");
}

TEST_CASE("[shapes] global average pool and a linear layer, with gradients") {
  Found found;
  for_each_shape(3, {1, 2, 3}, [&](const std::vector<int64_t>& s) {  // images, channels, classes
    const Tensor x = leaf({s[0], s[1], 2, 3}), w = leaf({s[1], s[2]});
    const Tensor y = pooled(x.relu()).matmul(w);
    found.add(describe(s), every_way({y.unsqueeze(-1)}));
    found.add(describe(s) + " gradient", every_way(gradient(y.square().sum(), {x, w})));
  });
  CHECK(found.text() == "");
}

TEST_CASE("[shapes] products cast to another width: the lanes of each place are its own") {
  Found found;
  auto products = [&](const std::vector<int64_t>& s, DType in, DType out) {
    const Tensor a = leaf({s[0], s[1]}, in), b = leaf({s[1], s[2]}, in);
    const std::string what = describe(s) + " " + std::string(name(in)) + " to " + std::string(name(out));
    found.add(what, every_way({a.matmul(b).cast(out)}));
    found.add(what + ", computed operand", every_way({a.matmul(b.relu()).cast(out)}));
    found.add(what + ", transposed operand",
              every_way({a.matmul(leaf({s[2], s[1]}, in).transpose()).cast(out)}));
  };
  for (DType in : {DType::F32, DType::F64})
    for (DType out : {DType::F64, DType::F32, DType::I8, DType::F16, DType::I64})
      for (const std::vector<int64_t>& s : {std::vector<int64_t>{3, 4, 17}, {9, 17, 33}})
        products(s, in, out);
  products({64, 65, 130}, DType::F32, DType::F64);  // long enough for a panel
  products({64, 65, 66}, DType::F64, DType::F32);
  CHECK(found.text() == "");
}

TEST_CASE("[shapes] gradients of products of views of views") {
  Found found;
  for (int64_t n : {4, 5, 7})
    for (int64_t size : {1, 2})
      for (int64_t step : {1, 2, 3}) {
        const Tensor x = leaf({n}), w = leaf({size, 2});
        const Tensor windows = x.window(0, size), y = windows.slice(0, 0, n - size + 1, step);
        const std::string what = describe({n, size, step});
        found.add(what, every_way(gradient(y.matmul(w).sum(), {x, w})));
        found.add(what + " squared", every_way(gradient(y.matmul(w).square().sum(), {x, w})));
        found.add(what + " twice",
                  every_way(gradient(y.window(0, 1).flatten(1).matmul(w).square().sum(), {x, w})));
      }
  for_each_shape(3, {1, 2, 3, 4}, [&](const std::vector<int64_t>& s) {
    const Tensor x = leaf({s[0], s[1], s[2]}), w = leaf({s[1], 2});
    const Tensor y = x.sum(2).slice(0, s[0] / 2, s[0]).matmul(w);
    found.add(describe(s), every_way(gradient(y.sum(), {x, w})));
    found.add(describe(s) + " squared", every_way(gradient(y.square().sum(), {x, w})));
    found.add(describe(s) + " flipped",
              every_way(gradient(x.flip(0).sum(2).slice(1, 0, 1).matmul(leaf({1, 2})).sum(), {x})));
  });
  CHECK(found.text() == "");
}
