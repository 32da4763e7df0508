// [marketplace] groups found in any model; continual learning from a pool, as published and by star.
#include "nn/dataset.h"
#include "tests/catch.h"
#include "tests/errors.h"
#include "tests/marketplace_net.h"
#include "tests/temporary_folder.h"

using namespace market_test;

namespace {

std::string text_of(const std::vector<mp::Group>& groups) {
  std::string out;
  for (const mp::Group& g : groups)
    out += (out.empty() ? "" : " | ") + g.name + " " + std::to_string(g.vendors);
  return out;
}

/// Layers in vectors, norms, a tensor of its own.
struct Deep {
  std::vector<nn::Linear> blocks;
  nn::LayerNorm norm{6};
  nn::Linear head{6, 3};
  Tensor scale = Tensor::ones({3});
  Deep() {
    blocks.emplace_back(2, 6);
    for (int i = 0; i < 4; ++i) blocks.emplace_back(6, 6);
  }
  Tensor operator()(const Tensor& x) const {
    Tensor h = x;
    for (const nn::Linear& b : blocks) h = b(h).tanh();
    return head(norm(h)) * scale;
  }
  template <class V>
  void walk(V& visit) {
    visit("blocks", blocks), visit("norm", norm), visit("head", head), visit("scale", scale);
  }
};

}  // namespace

TEST_CASE("[marketplace] the groups of a model are found, and how many vendors each is worth") {
  OnDevice on;
  nn::MnistCnn digits;
  const auto parameters = nn::parameters(digits);
  const Tensor images = Tensor::zeros({8, 1, 28, 28}, DType::U8), labels = Tensor::zeros({8}, DType::U8);
  CHECK(text_of(mp::find_groups(parameters, mp::Plan::Star, nn::classification(digits), images, labels)) ==
        "conv1 4 | conv2+norm1 4 | conv3 8 | conv4+norm2 16 | linear 128");
  CHECK(text_of(mp::find_groups(parameters, mp::Plan::Full)) ==
        "conv1+conv2+norm1 8 | conv3+conv4+norm2 8 | linear 8");
  Deep deep;
  CHECK(text_of(mp::find_groups(nn::parameters(deep), mp::Plan::Star)) ==
        "blocks.0 4 | blocks.1 4 | blocks.2 4 | blocks.3 4 | blocks.4+norm 4 | head+scale 4");
  CHECK(text_of(mp::find_groups(nn::parameters(deep), mp::Plan::PerSample)) ==
        "blocks.0+blocks.1 4 | blocks.2+blocks.3 4 | blocks.4+norm+head+scale 4");
  CHECK(error_of([] { mp::find_groups({}, mp::Plan::Star); }) == "groups: the model has no parameters");
}

TEST_CASE("[marketplace] a model of one's own trains with no groups given, and resumes to the same bits") {
  const Data data;
  TemporaryFolder folder;
  for (const auto plan : {mp::Plan::Star, mp::Plan::Full}) {
    OnDevice on;
    Deep deep;
    mp::Options o;
    o.plan = plan;
    mp::Trainer trainer(nn::parameters(deep), nn::classification(deep), o);
    CHECK(trainer.groups().empty());
    const double first = trainer.step(data.x(), data.labels()).loss;
    CHECK(trainer.groups().size() == (plan == mp::Plan::Star ? 6U : 3U));
    double last = 0;
    for (int i = 1; i < 40; ++i) {
      if (i == 30) trainer.save(folder / "c.safetensors");
      last = trainer.step(data.x(), data.labels()).loss;
    }
    CHECK(last < 0.8 * first);
    Deep copy;
    mp::Trainer resumed(nn::parameters(copy), nn::classification(copy), o);
    resumed.load(folder / "c.safetensors");
    CHECK(text_of(resumed.groups()) == text_of(trainer.groups()));
    while (resumed.steps() < 40) resumed.step(data.x(), data.labels());
    CHECK(flat(nn::parameters(copy)) == flat(nn::parameters(deep)));
  }
}

TEST_CASE("[marketplace] continual learning: a withheld class is learned from a small pool by star") {
  const Data data;
  OnDevice on;
  std::vector<float> old_points;
  std::vector<uint8_t> old_labels;
  for (size_t i = 0; i < kPoints; ++i) {
    if (data.of[i] == 2) continue;
    old_points.insert(old_points.end(), {data.at[2 * i], data.at[2 * i + 1]});
    old_labels.push_back(data.of[i]);
  }
  const Tensor x = Tensor::from(old_points, {static_cast<int64_t>(old_labels.size()), 2});
  const Tensor labels = Tensor::from(old_labels);
  const auto new_accuracy = [&](Net& net) {
    const auto shown = net(data.x()).argmax(1).to_vector<int64_t>();
    int right = 0, all = 0;
    for (size_t i = 0; i < kPoints; ++i)
      if (data.of[i] == 2) ++all, right += shown[i] == 2;
    return static_cast<double>(right) / all;
  };
  for (const auto plan : {mp::Plan::Star, mp::Plan::PerSample}) {
    on.context.seed(4);
    Net net;
    nn::BackpropTrainer base(nn::classification(net), std::make_unique<nn::Adam>(nn::parameters(net), 0.02));
    for (int i = 0; i < 100; ++i) base.step(x, labels);
    CHECK(new_accuracy(net) == 0);
    mp::Options o = options_of(plan, {4, 4, 8});
    o.lr = plan == mp::Plan::Star ? 0.1 : 0.01, o.lr_decay = 0;
    o.probe_scale = plan == mp::Plan::Star ? 0.1 : 1;
    o.unit = plan == mp::Plan::Star ? mp::Unit::PerGroup : mp::Unit::Whole;
    mp::Trainer trainer(nn::parameters(net), nn::classification(net), o);
    for (int i = 0; i < 60; ++i) trainer.step(data.x(), data.labels());
    if (plan == mp::Plan::Star) CHECK(new_accuracy(net) >= 0.75);
    else CHECK(new_accuracy(net) < 0.75);  // as published: slow
  }
}

TEST_CASE("[marketplace] datasets by label") {
  Dataset data{
      .count = 5, .rows = 1, .cols = 2, .images = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, .labels = {9, 1, 9, 3, 1}};
  const Dataset without = without_labels(data, std::vector<int64_t>{9});
  CHECK(without.count == 3);
  CHECK(without.classes == 10);
  CHECK(without.labels == std::vector<uint8_t>{1, 3, 1});
  CHECK(without.images == std::vector<uint8_t>{2, 3, 6, 7, 8, 9});
  CHECK(with_labels(data, std::vector<int64_t>{9, 3}).labels == std::vector<uint8_t>{9, 9, 3});
  CHECK(error_of([&] { with_labels(data, std::vector<int64_t>{5}); }) ==
        "dataset: none of 5 samples is left with labels 5");
  CHECK(error_of([&] { with_labels(data, std::vector<int64_t>{10}); }) ==
        "dataset: label 10 is not below 10");
  CHECK(error_of([&] { first_samples(data, 6); }) == "dataset: the first 6 of 5 samples");
}
