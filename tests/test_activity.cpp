// [marketplace] the activity plan: its estimate is the gradient in the mean, against plain loops in doubles; the same bits for
// every number of threads; groups that are found; mistakes.
#include <cmath>

#include "marketplace/groups.h"
#include "marketplace/record.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/marketplace_net.h"
#include "tests/temporary_folder.h"

using namespace market_test;

namespace {

constexpr int64_t kImages = 6, kSide = 8;

/// [n, 1, 8, 8] -> 3 channels of 6 x 6 -> 4 of 4 x 4, of which the greatest of 2 x 2 -> 5 -> 3.
struct Small {
  nn::Conv2d first{1, 3, 3}, second{3, 4, 3};
  nn::Linear third{16, 5}, last{5, 3};
  Tensor operator()(const Tensor& x) const {
    const Tensor maps = second(first(x).relu()).relu().max_pool2d(2);
    return last(third(maps.flatten(1)).tanh());
  }
  template <class V>
  void walk(V& visit) {
    visit("first", first), visit("second", second), visit("third", third), visit("last", last);
  }
};

/// Channels of a picture, and its side.
struct Maps {
  std::vector<double> at;
  size_t side;
};

Maps convolved(const Maps& x, size_t in, const std::vector<double>& weight, const std::vector<double>& bias) {
  Maps out{{}, x.side - 2};
  for (size_t o = 0; o < bias.size(); ++o)
    for (size_t r = 0; r < out.side; ++r)
      for (size_t c = 0; c < out.side; ++c) {
        double sum = bias[o];
        for (size_t i = 0; i < in; ++i)
          for (size_t k = 0; k < 9; ++k)
            sum += weight[(o * in + i) * 9 + k] * x.at[(i * x.side + r + k / 3) * x.side + c + k % 3];
        out.at.push_back(std::max(sum, 0.0));
      }
  return out;
}

struct Pictures {
  std::vector<float> pixels;
  std::vector<uint8_t> of;
  Pictures() {
    for (int64_t i = 0; i < kImages * kSide * kSide; ++i)
      pixels.push_back(static_cast<float>(std::sin(static_cast<double>(i * i % 1009))));
    for (int64_t i = 0; i < kImages; ++i) of.push_back(static_cast<uint8_t>(i % 3));
  }
  Tensor x() const { return Tensor::from(pixels, {kImages, 1, kSide, kSide}); }
  Tensor labels() const { return Tensor::from(of, {kImages}); }

  double loss(const Values& w) const {
    double total = 0;
    for (size_t n = 0; n < kImages; ++n) {
      const auto begin = pixels.begin() + static_cast<ptrdiff_t>(n * kSide * kSide);
      Maps maps{{begin, begin + kSide * kSide}, kSide};
      maps = convolved(convolved(maps, 1, w[0], w[1]), 3, w[2], w[3]);
      std::vector<double> h;
      for (size_t o = 0; o < 4; ++o)
        for (size_t r = 0; r < 4; r += 2)
          for (size_t c = 0; c < 4; c += 2) {
            const double* at = &maps.at[(o * 4 + r) * 4 + c];
            h.push_back(std::max(std::max(at[0], at[1]), std::max(at[4], at[5])));
          }
      h = Data::layer(h, w[4], w[5]);
      for (double& v : h) v = std::tanh(v);
      h = Data::layer(h, w[6], w[7]);
      double sum = 0;
      for (const double v : h) sum += std::exp(v);
      total += std::log(sum) - h[of[n]];
    }
    return total / kImages;
  }

  /// By central differences.
  Values gradient(Values w) const {
    Values out = zeros(w);
    for (size_t p = 0; p < w.size(); ++p)
      for (size_t e = 0; e < w[p].size(); ++e) {
        const double at = w[p][e], by = 1e-6;
        w[p][e] = at + by;
        const double above = loss(w);
        w[p][e] = at - by;
        out[p][e] = (above - loss(w)) / (2 * by);
        w[p][e] = at;
      }
    return out;
  }
};

mp::Options small_options() {
  mp::Options o;
  o.plan = mp::Plan::Activity, o.update = mp::Update::Adam;
  o.groups = mp::parse_groups("first|second|third|last", std::vector<int64_t>{2, 2, 1, 1});
  o.groups[1].one_in = 2;
  o.lr = 1e-3, o.probe_scale = 1;  // sigma: small, so that differences are slopes
  return o;
}

/// What steps with different random numbers, all from the same weights, take the gradient to be.
std::vector<Values> estimates(const std::vector<nn::Parameter>& parameters, const nn::Objective& objective,
                              const Tensor& x, const Tensor& labels, const mp::Options& options, int count) {
  Scalar key(int64_t{7}, DType::U64), counter(int64_t{0}, DType::U64);
  const Scalar lr(options.lr), sigma(options.lr * options.probe_scale);
  const mp::StepInputs in{node_of(Tensor(key)), node_of(Tensor(counter)), node_of(Tensor(lr)),
                          node_of(Tensor(sigma))};
  const auto members = mp::resolve(options.groups, options.plan, parameters);
  std::vector<Values> out;
  auto all = jit([&](const Tensor& a, const Tensor& b) {
    std::vector<Tensor> gradients(parameters.size());
    const mp::StepGraph step = mp::record_step(objective, a, b, parameters, options, members, in);
    for (size_t i = 0; i < step.index.size(); ++i) gradients[step.index[i]] = tensor_of(step.gradients[i]);
    return gradients;
  });
  for (int i = 0; i < count; ++i) {
    counter.set(int64_t{i} << 20);
    Values v;
    for (const Tensor& g : all(x, labels)) v.push_back(g.to_vector<double>());
    out.push_back(v);
  }
  return out;
}

/// Checks each element's mean by its own deviation, and each parameter's as a whole; returns the parts of noise.
std::vector<double> check_unbiased(const std::vector<Values>& found, const Values& wanted) {
  std::vector<double> out;
  const auto count = static_cast<double>(found.size());
  for (size_t p = 0; p < wanted.size(); ++p) {
    double error = 0, length = 0, noise = 0;
    for (size_t e = 0; e < wanted[p].size(); ++e) {
      double mean = 0, square = 0;
      for (const Values& v : found) mean += v[p][e] / count, square += v[p][e] * v[p][e] / count;
      const double deviation = std::sqrt(std::max(square - mean * mean, 0.0) / (count - 1));
      INFO("parameter " << p << " element " << e << ": " << mean << " +- " << deviation << ", not "
                        << wanted[p][e]);
      CHECK(std::abs(mean - wanted[p][e]) < 5 * deviation + 2e-3 * std::sqrt(square) + 1e-5);
      error += (mean - wanted[p][e]) * (mean - wanted[p][e]), length += wanted[p][e] * wanted[p][e];
      noise += deviation * deviation;
    }
    INFO("parameter " << p << ": error " << error << " noise " << noise << " of " << length);
    CHECK(error < 3 * noise + 1e-4 * length);
    out.push_back(noise / length);
  }
  return out;
}

}  // namespace

TEST_CASE(
    "[marketplace] activity: the mean of many estimates is the gradient, and the last layer's is exact but for sampling") {
  OnDevice on;
  const Pictures data;
  Small net;
  Values w;
  for (const auto& p : nn::parameters(net)) w.push_back(p.tensor->to_vector<double>());
  const Values wanted = data.gradient(w);
  const std::vector<double> noise = check_unbiased(
      estimates(nn::parameters(net), nn::classification(net), data.x(), data.labels(), small_options(), 600),
      wanted);
  CHECK(std::max(noise[6], noise[7]) < 1e-8);  // no sampling, no perturbation
}

TEST_CASE(
    "[marketplace] low-rank: the mean of many estimates is the gradient, of convolutions and of transformers") {
  OnDevice on;
  const Pictures data;
  Small net;
  Values w;
  for (const auto& p : nn::parameters(net)) w.push_back(p.tensor->to_vector<double>());
  mp::Options o = small_options();
  o.plan = mp::Plan::LowRank, o.groups = mp::find_groups(nn::parameters(net), o.plan);
  check_unbiased(estimates(nn::parameters(net), nn::classification(net), data.x(), data.labels(), o, 3000),
                 data.gradient(w));

  nn::Gpt gpt({.vocabulary = 5, .context = 4, .layers = 1, .width = 8, .heads = 2});
  const auto parameters = nn::parameters(gpt);
  const Tensor ids = Tensor::from(std::vector<uint8_t>{0, 1, 2, 3, 4, 0, 2, 1, 3, 3, 1, 4}, {3, 4});
  const Tensor next = Tensor::from(std::vector<uint8_t>{1, 2, 3, 4, 0, 2, 1, 3, 3, 1, 4, 0}, {3, 4});
  for (const nn::Parameter& p : parameters)  // as they are made slopes are next to nothing
    p.tensor->assign(*p.tensor * (p.tensor->rank() == 2 ? 15.0 : 1.0)), p.tensor->realize();
  const nn::Objective objective = nn::language_model(gpt);
  std::vector<Tensor> all;
  for (const nn::Parameter& p : parameters) all.push_back(*p.tensor);
  Values wanted;
  for (const Tensor& g : gradient(objective(ids, next).loss, all)) wanted.push_back(g.to_vector<double>());
  o.groups = mp::find_groups(parameters, o.plan);
  check_unbiased(estimates(parameters, objective, ids, next, o, 3000), wanted);
}

TEST_CASE("[marketplace] activity: convolutions have the same bits for 1, 2, 3 threads, and resumed") {
  TemporaryFolder folder;
  const Pictures data;
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 3}) {
    OnDevice on("llvm", threads);
    Small net;
    mp::Trainer trainer(nn::parameters(net), nn::classification(net), small_options());
    for (int step = 0; step < 6; ++step) {
      trainer.step(data.x(), data.labels());
      if (step == threads) trainer.save(folder / "checkpoint.safetensors");
    }
    results.push_back(flat(nn::parameters(net)));
    OnDevice later("llvm", threads, 99);
    Small copy;
    mp::Trainer resumed(nn::parameters(copy), nn::classification(copy), small_options());
    resumed.load(folder / "checkpoint.safetensors");
    while (resumed.steps() < 6) resumed.step(data.x(), data.labels());
    results.push_back(flat(nn::parameters(copy)));
  }
  for (const auto& r : results) CHECK(r == results[0]);
}

TEST_CASE("[marketplace] activity: layers of a model are found, and what vendors each is worth") {
  OnDevice on;
  nn::MnistCnn digits;
  const auto parameters = nn::parameters(digits);
  const Tensor images = Tensor::zeros({8, 1, 28, 28}, DType::U8), labels = Tensor::zeros({8}, DType::U8);
  const auto found =
      mp::find_groups(parameters, mp::Plan::Activity, nn::classification(digits), images, labels);
  const auto usual = mp::mnist_groups(mp::Plan::Activity);
  CHECK(mp::to_text(found) == "conv1|conv2|conv3|conv4|linear");
  CHECK(mp::vendors_text(found) == "1,1,8,9,1");
  CHECK(mp::one_in_text(found) == "8,4,1,1,1");
  CHECK(mp::vendors_text(usual) == mp::vendors_text(found));
  CHECK(mp::one_in_text(usual) == mp::one_in_text(found));
}

TEST_CASE("[marketplace] activity: what is no layer is told") {
  OnDevice on;
  const Pictures data;
  Small net;
  const auto error_with = [&](const char* groups, std::vector<int64_t> vendors) {
    return error_of([&] {
      mp::Options o = small_options();
      o.groups = mp::parse_groups(groups, vendors);
      mp::Trainer trainer(nn::parameters(net), nn::classification(net), o);
      trainer.step(data.x(), data.labels());
    });
  };
  CHECK(error_with("first+second|last", {1, 1}) ==
        "marketplace: group 'first+second' is more than one layer: second.weight");
  CHECK(error_with("first.bias|last", {1, 1}) ==
        "marketplace: group 'first.bias' has no weight of two axes or more");
  CHECK(error_with("first.weight|last", {1, 1}) ==
        "marketplace: group 'first.weight' lacks the bias of its layer");
  mp::Options o = small_options();
  o.groups[0].one_in = 0;
  CHECK(error_of([&] { mp::Trainer(nn::parameters(net), nn::classification(net), o); }) ==
        "groups: vendors of 'first' for one in 0 samples");
  o = small_options(), o.plan = mp::Plan::Star;
  CHECK(error_of([&] { mp::Trainer(nn::parameters(net), nn::classification(net), o); }) ==
        "marketplace: the star plan has no vendors for one in 2 samples");
  o = small_options(), o.antithetic = true, o.groups[0].vendors = 2;
  CHECK(error_of([&] { mp::Trainer(nn::parameters(net), nn::classification(net), o); }) ==
        "marketplace: the activity plan has no antithetic vendors");
}
