// [layers] what models are made of, against their formulas written out: convolutions and pools of one to three axes, running
// statistics, recurrent layers.
#include <kontor/kontor.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "tests/catch.h"
#include "tests/close.h"
#include "tests/errors.h"
#include "tests/on_device.h"
#include "tests/temporary_folder.h"

using namespace kontor;

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// Every place of a box of these sizes.
void for_each(const Longs& sizes, const std::function<void(const Longs&)>& f) {
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) return;
  Longs at(sizes.size(), 0);
  while (true) {
    f(at);
    size_t a = sizes.size();
    while (a > 0 && ++at[a - 1] == sizes[a - 1]) at[--a] = 0;
    if (a == 0) return;
  }
}

struct Box {
  Longs shape;
  Doubles data;
  explicit Box(const Tensor& t) : shape(t.shape()), data(values(t)) {}
  explicit Box(Longs s) : shape(std::move(s)) {
    size_t n = 1;
    for (const int64_t d : shape) n *= static_cast<size_t>(d);
    data.assign(n, 0);
  }
  /// Null where it is outside.
  double* at(const Longs& place) {
    int64_t i = 0;
    for (size_t a = 0; a < shape.size(); ++a) {
      if (place[a] < 0 || place[a] >= shape[a]) return nullptr;
      i = i * shape[a] + place[a];
    }
    return &data[static_cast<size_t>(i)];
  }
};

}  // namespace

TEST_CASE("[layers] convolutions over one to three axes, and what they do to their gradient, by loops") {
  struct Row {
    Longs x, weight, stride, padding, dilation, beyond;
    int64_t groups;
  };
  const Row rows[] = {
      {{2, 4, 9}, {6, 2, 3}, {2}, {1}, {2}, {1}, 2},
      {{2, 4, 5, 6}, {4, 2, 3, 2}, {2, 1}, {1, 0}, {1, 2}, {0, 1}, 2},
      {{1, 2, 4, 3, 5}, {2, 1, 2, 2, 3}, {2, 1, 3}, {1, 0, 1}, {1, 1, 1}, {1, 0, 2}, 2},
      {{1, 3, 4}, {3, 3, 1}, {3}, {0}, {1}, {2}, 1},
  };
  OnDevice on("llvm", 1, 3);
  for (const Row& row : rows) {
    INFO(row.x.size() - 2 << " axes");
    const Tensor x = normal({row.x.begin(), row.x.end()}), w = normal({row.weight.begin(), row.weight.end()});
    const ConvOptions options{row.stride, row.padding, row.dilation, row.groups, row.beyond};
    Box bx(x), bw(w);
    if (row.x.size() != 4) {  // conv2d has its place in the op table
      const Tensor y = row.x.size() == 3 ? conv1d(x, w, {}, options) : conv3d(x, w, {}, options);
      Box got(y), wanted(got.shape);
      const int64_t out = row.weight[0] / row.groups, in = row.weight[1];
      for_each(wanted.shape, [&](const Longs& o) {
        for_each(Longs(row.weight.begin() + 1, row.weight.end()), [&](const Longs& k) {
          Longs from{o[0], o[1] / out * in + k[0]}, tap{o[1], k[0]};
          for (size_t a = 0; a < row.stride.size(); ++a) {
            from.push_back(o[2 + a] * row.stride[a] - row.padding[a] + k[1 + a] * row.dilation[a]);
            tap.push_back(k[1 + a]);
          }
          if (const double* v = bx.at(from)) *wanted.at(o) += *v * *bw.at(tap);
        });
      });
      check_close(got.data, wanted.data);
    }
    Shape turned{row.x[1], row.weight[1]};  // [in, out/groups, ..]
    turned.insert(turned.end(), row.weight.begin() + 2, row.weight.end());
    const Tensor back = normal(turned);
    bw = Box(back);
    Box got(conv_transpose(x, back, {}, options));
    Longs shape{row.x[0], row.weight[1] * row.groups};
    for (size_t a = 0; a < row.stride.size(); ++a)
      shape.push_back((row.x[2 + a] - 1) * row.stride[a] - 2 * row.padding[a] +
                      (row.weight[2 + a] - 1) * row.dilation[a] + row.beyond[a] + 1);
    CHECK(got.shape == shape);
    Box wanted(shape);
    const int64_t in = row.x[1] / row.groups;
    for_each(row.x, [&](const Longs& i) {
      for_each(Longs(row.weight.begin() + 1, row.weight.end()), [&](const Longs& k) {
        Longs to{i[0], i[1] / in * row.weight[1] + k[0]}, tap{i[1], k[0]};
        for (size_t a = 0; a < row.stride.size(); ++a) {
          to.push_back(i[2 + a] * row.stride[a] - row.padding[a] + k[1 + a] * row.dilation[a]);
          tap.push_back(k[1 + a]);
        }
        if (double* v = wanted.at(to)) *v += *bx.at(i) * *bw.at(tap);
      });
    });
    check_close(got.data, wanted.data);
  }
}

TEST_CASE(
    "[layers] a transposed convolution is the gradient of the convolution, and its own gradients are right") {
  OnDevice on("llvm", 1, 4);
  Tensor y = normal({2, 3, 4}), w = normal({3, 2, 3}), x = normal({2, 2, 9});
  const ConvOptions options{.stride = {2}, .padding = {1}, .output_padding = {0}};
  const Tensor back =
      gradient((conv1d(x, w, {}, {.stride = {2}, .padding = {1}}).slice(2, 0, 4) * y).sum(), {x})[0];
  check_close(values(back.slice(2, 0, 7)), values(conv_transpose(y, w, {}, options)));
  Tensor a = Tensor::normal({1, 2, 3, 2}, 0, 1, DType::F64).realize(),
         b = Tensor::normal({2, 3, 2, 2}, 0, 1, DType::F64).realize();
  check_gradients({&a, &b}, [&] { return conv_transpose(a, b, {}, {.stride = {2, 1}}).sin().sum(); });
}

TEST_CASE("[layers] pools with padding, dilation and windows that reach beyond the end, by loops") {
  struct Row {
    Longs x, size, stride, padding, dilation;
    bool ceil;
  };
  const Row rows[] = {{{2, 3, 10}, {3}, {2}, {1}, {1}, false},
                      {{2, 3, 10}, {3}, {2}, {1}, {1}, true},
                      {{1, 2, 7, 8}, {2, 3}, {2, 2}, {1, 0}, {1, 1}, true},
                      {{1, 1, 5, 4, 6}, {2, 2, 3}, {2, 3, 2}, {1, 1, 1}, {1, 1, 1}, true},
                      {{1, 2, 12}, {3}, {4}, {1}, {2}, true},
                      {{1, 1, 4}, {2}, {5}, {1}, {1}, true}};
  OnDevice on("llvm", 1, 5);
  for (const Row& row : rows) {
    const Tensor x = normal({row.x.begin(), row.x.end()});
    Box bx(x);
    Longs shape{row.x[0], row.x[1]};
    for (size_t a = 0; a < row.size.size(); ++a) {  // PyTorch's rule
      const int64_t n = row.x[2 + a], p = row.padding[a], s = row.stride[a];
      const int64_t rest = n + 2 * p - row.dilation[a] * (row.size[a] - 1) - 1;
      int64_t count = (row.ceil ? (rest + s - 1) / s : rest / s) + 1;
      if (row.ceil && (count - 1) * s >= n + p) --count;
      shape.push_back(count);
    }
    Box most(shape), with(shape), without(shape);
    for_each(shape, [&](const Longs& o) {
      double best = -HUGE_VAL, sum = 0, inside = 0, padded = 0;
      for_each(row.size, [&](const Longs& k) {
        Longs from{o[0], o[1]};
        bool counts = true;
        for (size_t a = 0; a < k.size(); ++a) {
          from.push_back(o[2 + a] * row.stride[a] - row.padding[a] + k[a] * row.dilation[a]);
          counts = counts && from.back() < row.x[2 + a] + row.padding[a];
        }
        padded += counts;
        if (const double* v = bx.at(from)) best = std::max(best, *v), sum += *v, ++inside;
      });
      *most.at(o) = best, *with.at(o) = sum / padded, *without.at(o) = sum / inside;
    });
    PoolOptions options{row.stride, row.padding, row.dilation, row.ceil};
    const Tensor greatest = max_pool(x, row.size, options);
    CHECK(greatest.shape() == shape);
    check_close(values(greatest), most.data);
    if (row.dilation != Longs(row.size.size(), 1)) continue;
    check_close(values(avg_pool(x, row.size, options)), with.data);
    options.count_padding = false;
    check_close(values(avg_pool(x, row.size, options)), without.data);
  }
}

TEST_CASE("[layers] windows: mistakes are named") {
  OnDevice on("interp");
  const Tensor x = Tensor::zeros({1, 4, 5}), w = Tensor::zeros({4, 2, 3});
  CHECK(error_of([&] { conv1d(x, w, {}, {.stride = {1, 2}, .groups = 2}); }) ==
        "conv1d: stride (1, 2): one number");
  CHECK(error_of([&] { conv3d(x, w); }) ==
        "conv3d: f32[1, 4, 5] x f32[4, 2, 3]: needs x [n, c, d, h, w] and weight [o, c/groups, kd, kh, kw]");
  CHECK(
      error_of([&] { conv_transpose(x, w, {}, {.output_padding = {1}}); }) ==
      "conv_transpose: an output padding of 1 with a stride of 1 and a dilation of 1: needs less than one of them");
  CHECK(error_of([&] { conv_transpose(Tensor::zeros({1, 3, 5}), w); }) ==
        "conv_transpose: f32[1, 3, 5] x f32[4, 2, 3]: channels 3 and 4 differ");
  CHECK(error_of([&] { max_pool(x, {2}, {.padding = {2}}); }) ==
        "max_pool: a padding of 2 for windows of 2: at most half of one");
  CHECK(error_of([&] { avg_pool(x, {2}, {.dilation = {2}}); }) == "avg_pool: a dilation of (2)");
  CHECK(error_of([&] { max_pool(Tensor::zeros({3, 4}), {2}); }) ==
        "max_pool: f32[3, 4]: needs [n, c, ..] with one to three axes behind");
  CHECK(error_of([] { nn::Conv2d(3, 4, 3, 1, 0, true, 1, 2); }) == "Conv2d: 2 groups of 4 and 3 channels");
}

TEST_CASE("[layers] layers of convolutions have weights of the shape that their groups ask for") {
  OnDevice on("llvm", 1, 6);
  const Tensor image = normal({2, 4, 6, 6});
  nn::Conv2d depthwise(4, 8, 3, 1, 2, true, 2, 4);
  CHECK(depthwise.weight.shape() == Longs{8, 1, 3, 3});
  CHECK(depthwise(image).shape() == Longs{2, 8, 6, 6});
  CHECK(nn::Conv1d(4, 6, 3, {.padding = {1}, .groups = 2})(image.flatten(2)).shape() == Longs{2, 6, 36});
  CHECK(nn::Conv3d(2, 3, {2})(image.reshape({2, 2, 2, 6, 6})).shape() == Longs{2, 3, 1, 5, 5});
  CHECK(nn::ConvTranspose(4, 6, {2, 2}, {.stride = {2}, .groups = 2})(image).shape() == Longs{2, 6, 12, 12});
}

namespace {

struct OneNorm {
  nn::BatchNorm norm{2, 0.25};
  template <class V>
  void walk(V& visit) {
    visit("norm", norm);
  }
};

}  // namespace

TEST_CASE("[layers] BatchNorm: by the batch in training, by what was seen else; kept, not trained") {
  OnDevice on;
  OneNorm net;
  const auto all = nn::parameters(net);
  REQUIRE(all.size() == 4);
  CHECK(all[2].name == "norm.mean");
  CHECK((all[0].trained && all[1].trained && !all[2].trained && !all[3].trained));
  nn::SGD sgd(nn::parameters(net), 0.1);
  CHECK(sgd.parameters().size() == 2);
  auto step = jit([&](const Tensor& x) {
    const Tensor y = net.norm(x, true);
    sgd.step((y * y * y).sum());
    return y;
  });
  Doubles mean{0, 0}, variance{1, 1};
  for (int t = 0; t < 3; ++t) {
    const Tensor x = (Tensor::normal({4, 2, 3}) * 2 + 5).realize();
    const Doubles at = values(x), weight = values(net.norm.weight), bias = values(net.norm.bias);
    const Doubles got = values(step(x));
    for (size_t c = 0; c < 2; ++c) {
      double m = 0, v = 0;
      const auto of_channel = [&](size_t i) { return i / 3 % 2 == c; };
      for (size_t i = 0; i < at.size(); ++i) m += of_channel(i) ? at[i] / 12 : 0;
      for (size_t i = 0; i < at.size(); ++i) v += of_channel(i) ? (at[i] - m) * (at[i] - m) : 0;
      for (size_t i = 0; i < at.size(); ++i)
        if (of_channel(i))
          CHECK(got[i] == Approx((at[i] - m) / std::sqrt(v / 12 + 1e-5) * weight[c] + bias[c]).margin(1e-5));
      mean[c] = 0.75 * mean[c] + 0.25 * m, variance[c] = 0.75 * variance[c] + 0.25 * v / 11;
    }
    check_close(values(net.norm.mean.value), mean);
    check_close(values(net.norm.variance.value), variance);
  }
  const Tensor x = Tensor::from({1, 2, 3, 4}, {2, 2});
  const Doubles weight = values(net.norm.weight), bias = values(net.norm.bias), out = values(net.norm(x));
  for (size_t i = 0; i < 4; ++i)
    CHECK(out[i] == Approx((static_cast<double>(i + 1) - mean[i % 2]) / std::sqrt(variance[i % 2] + 1e-5) *
                               weight[i % 2] +
                           bias[i % 2]));
  net.norm(Tensor::full({2, 2}, std::numeric_limits<double>::infinity()), true);
  check_close(values(net.norm.mean.value), mean);  // stays as it was
  CHECK(error_of([&] { net.norm(Tensor::ones({1, 2}), true); }).find("1 values with a correction of 1") !=
        std::string::npos);
}

namespace {

struct Normed {
  nn::Linear up{2, 6};
  nn::BatchNorm norm{6};
  nn::Linear down{6, 3};
  Tensor run(const Tensor& x, bool training) const { return down(norm(up(x), training).relu()); }
  template <class V>
  void walk(V& visit) {
    visit("up", up), visit("norm", norm), visit("down", down);
  }
};

nn::Objective objective(const Normed& net) {
  return [&net](const Tensor& x, const Tensor& labels) -> nn::Score {
    return cross_entropy(net.run(x, true), labels).mean();
  };
}

Doubles all_values(Normed& net) {
  Doubles out;
  for (const auto& p : nn::parameters(net))
    for (const double v : values(*p.tensor)) out.push_back(v);
  return out;
}

}  // namespace

TEST_CASE("[layers] a checkpoint of a model with running statistics goes on with the same bits") {
  TemporaryFolder folder;
  OnDevice on("llvm", 1, 5);
  const Tensor x = normal({12, 2}), labels = Tensor::randint({12}, 0, 3).realize();
  Normed net, other;
  nn::BackpropTrainer trainer(objective(net), std::make_unique<nn::Adam>(nn::parameters(net), 0.05));
  for (int t = 0; t < 3; ++t) trainer.step(x, labels);
  trainer.save(folder / "a.safetensors");
  for (int t = 0; t < 3; ++t) trainer.step(x, labels);
  nn::BackpropTrainer resumed(objective(other), std::make_unique<nn::Adam>(nn::parameters(other), 0.05));
  resumed.load(folder / "a.safetensors");
  for (int t = 0; t < 3; ++t) resumed.step(x, labels);
  CHECK(all_values(net) == all_values(other));
}

TEST_CASE(
    "[layers] a batch whose loss is not finite leaves running statistics as they were, whole or in parts") {
  for (const int64_t parts : {1, 2}) {
    OnDevice on("llvm", 2, 5);
    OneNorm net;
    const nn::Objective weighed = [&](const Tensor& x, const Tensor& weights) -> nn::Score {
      return (net.norm(x, true).square().mean(1) * weights).mean();
    };
    nn::BackpropTrainer trainer(weighed, std::make_unique<nn::SGD>(nn::parameters(net), 0.05), 0, parts);
    const Tensor x = normal({8, 2}), fine = Tensor::ones({8}).realize();
    const Tensor bad = Tensor::from({1, 1, 1, 1, 1, 1, 1, std::numeric_limits<float>::quiet_NaN()}, {8});
    trainer.step(x, fine);
    for (int t = 0; t < 2; ++t) {
      const auto all = [&] {
        Doubles out;
        for (const nn::Parameter& p : nn::parameters(net))
          for (const double v : values(*p.tensor)) out.push_back(v);
        return out;
      };
      const Doubles before = all();
      CHECK_THROWS_AS(trainer.step(normal({8, 2}), bad), Error);
      CHECK(all() == before);
      trainer.step(normal({8, 2}), fine);
      CHECK(all() != before);
    }
  }
}

namespace {

/// PyTorch's formulas of one sequence at a time, in double.
Doubles lstm_by_loops(const nn::LSTM& layer, const Tensor& x, const Doubles& h0, const Doubles& c0) {
  const Doubles wi = values(layer.input.weight), bi = values(layer.input.bias),
                wh = values(layer.state.weight), bh = values(layer.state.bias), at = values(x);
  const auto batch = static_cast<size_t>(x.size(0)), n = static_cast<size_t>(x.size(1)),
             in = static_cast<size_t>(x.size(2)), size = bh.size() / 4;
  Doubles out;
  for (size_t b = 0; b < batch; ++b) {
    Doubles h(h0.begin() + static_cast<long>(b * size), h0.begin() + static_cast<long>((b + 1) * size));
    Doubles c(c0.begin() + static_cast<long>(b * size), c0.begin() + static_cast<long>((b + 1) * size));
    for (size_t t = 0; t < n; ++t) {
      Doubles gates(4 * size);
      for (size_t g = 0; g < 4 * size; ++g) {
        gates[g] = bi[g] + bh[g];
        for (size_t k = 0; k < in; ++k) gates[g] += wi[g * in + k] * at[(b * n + t) * in + k];
        for (size_t k = 0; k < size; ++k) gates[g] += wh[g * size + k] * h[k];
      }
      for (size_t k = 0; k < size; ++k) {
        c[k] = sigmoid(gates[size + k]) * c[k] + sigmoid(gates[k]) * std::tanh(gates[2 * size + k]);
        h[k] = sigmoid(gates[3 * size + k]) * std::tanh(c[k]);
      }
      out.insert(out.end(), h.begin(), h.end());
    }
  }
  return out;
}

Doubles gru_by_loops(const nn::GRU& layer, const Tensor& x, const Doubles& h0) {
  const Doubles wi = values(layer.input.weight), bi = values(layer.input.bias),
                wh = values(layer.state.weight), bh = values(layer.state.bias), at = values(x);
  const auto batch = static_cast<size_t>(x.size(0)), n = static_cast<size_t>(x.size(1)),
             in = static_cast<size_t>(x.size(2)), size = bh.size() / 3;
  Doubles out;
  for (size_t b = 0; b < batch; ++b) {
    Doubles h(h0.begin() + static_cast<long>(b * size), h0.begin() + static_cast<long>((b + 1) * size));
    for (size_t t = 0; t < n; ++t) {
      Doubles gi(3 * size), gh(3 * size);
      for (size_t g = 0; g < 3 * size; ++g) {
        gi[g] = bi[g], gh[g] = bh[g];
        for (size_t k = 0; k < in; ++k) gi[g] += wi[g * in + k] * at[(b * n + t) * in + k];
        for (size_t k = 0; k < size; ++k) gh[g] += wh[g * size + k] * h[k];
      }
      for (size_t k = 0; k < size; ++k) {
        const double r = sigmoid(gi[k] + gh[k]), z = sigmoid(gi[size + k] + gh[size + k]);
        const double fresh = std::tanh(gi[2 * size + k] + r * gh[2 * size + k]);
        h[k] = (1 - z) * fresh + z * h[k];
      }
      out.insert(out.end(), h.begin(), h.end());
    }
  }
  return out;
}

template <class Layer>
void to_f64(Layer& layer) {
  for (const auto& p : nn::parameters(layer)) {
    *p.tensor = p.tensor->cast(DType::F64);
    p.tensor->realize();
  }
}

}  // namespace

TEST_CASE("[layers] LSTM and GRU are PyTorch's formulas, from any state, with any number of steps") {
  OnDevice on("llvm", 1, 7);
  const nn::LSTM lstm(3, 5);
  const nn::GRU gru(3, 5);
  const Doubles zeros(10, 0);
  for (const int64_t n : {1, 2, 7}) {
    INFO(n << " steps");
    const Tensor x = normal({2, n, 3}), h = normal({2, 5}), c = normal({2, 5});
    const nn::Recurrence a = lstm(x, h, c), g = gru(x, h);
    check_close(values(a.outputs), lstm_by_loops(lstm, x, values(h), values(c)));
    check_close(values(g.outputs), gru_by_loops(gru, x, values(h)));
    check_close(values(lstm(x).outputs), lstm_by_loops(lstm, x, zeros, zeros));
    check_close(values(a.hidden), values(a.outputs.select(1, -1)));
    const nn::Recurrence once = lstm(x.slice(1, 0, n / 2), h, c),
                         rest = lstm(x.slice(1, n / 2), once.hidden, once.cell);
    check_close(values(rest.cell), values(a.cell));
    check_close(values(rest.outputs.select(1, -1)), values(a.hidden));
  }
  CHECK(gru(Tensor::zeros({2, 0, 3})).outputs.shape() == Longs{2, 0, 5});
  CHECK(lstm(Tensor::zeros({0, 4, 3})).outputs.shape() == Longs{0, 4, 5});
  CHECK(error_of([&] { lstm(Tensor::zeros({2, 3})); }) == "LSTM: f32[2, 3]: needs [batch, n, in]");
  CHECK(error_of([&] { gru(Tensor::zeros({2, 4, 3}), Tensor::zeros({2, 4})); }) ==
        "gru: f32[2, 4, 15] by f32[15, 5]: begins with f32[2, 4], not [2, 5]");
}

TEST_CASE("[layers] gradients of LSTM and GRU are the slopes, of weights, inputs and states") {
  OnDevice on("llvm", 1, 8);
  nn::LSTM lstm(2, 3);
  nn::GRU gru(2, 3);
  to_f64(lstm), to_f64(gru);
  for (const int64_t n : {1, 4}) {
    const auto made = [](const Shape& s) { return Tensor::normal(s, 0, 1, DType::F64).realize(); };
    Tensor x = made({2, n, 2}), h = made({2, 3}), c = made({2, 3});
    const Tensor by = made({2, n, 3});
    check_gradients({&x, &h, &c, &lstm.input.weight, &lstm.input.bias, &lstm.state.weight, &lstm.state.bias},
                    [&] {
                      const nn::Recurrence r = lstm(x, h, c);
                      return (r.outputs * by).sum() + r.cell.square().sum() + r.hidden.sin().sum();
                    });
    check_gradients({&x, &h, &gru.input.weight, &gru.input.bias, &gru.state.weight, &gru.state.bias}, [&] {
      const nn::Recurrence r = gru(x, h);
      return (r.outputs * by).sum() + r.hidden.square().sum();
    });
  }
}

TEST_CASE("[layers] a step of an LSTM has as many kernels for each of its steps, however many") {
  const auto launches = [](int64_t n) {
    OnDevice on("interp", 1, 9);
    nn::LSTM lstm(4, 4);
    nn::SGD sgd(nn::parameters(lstm), 0.1);
    const Tensor x = Tensor::normal({2, n, 4}).realize();
    const Counters before = on.context.counters();
    sgd.step(lstm(x).outputs.square().sum());
    return static_cast<double>(on.context.counters().launches - before.launches);
  };
  const double few = launches(6), more = launches(12), most = launches(24);
  CHECK(most - more <= 2 * (more - few) + 4);
  CHECK(few > 6);
}
