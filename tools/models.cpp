// Graphs of named models, recorded as a user's program would record them.
#include "tools/models.h"

#include <filesystem>

#include <kontor/kontor.h>
#include <kontor/nn.h>

#include "base/error.h"
#include "graph/recording.h"
#include "marketplace/groups.h"
#include "marketplace/record.h"
#include "tools/gpt.h"

namespace kontor::tools {

namespace {

constexpr int64_t batch = 128;

struct Example {
  nn::MnistCnn model;
  Tensor images = Tensor::zeros({batch, 1, 28, 28}, DType::U8).realize();
  Tensor labels = Tensor::zeros({batch}, DType::U8).realize();

  Example() {
    for (const nn::Parameter& p : nn::parameters(model)) p.tensor->realize();
  }
};

Graph forward() {
  Example e;
  return make_graph({node_of(e.model(e.images))});
}

Graph training_step() {
  Example e;
  const Tensor loss = cross_entropy(e.model(e.images), e.labels).mean();
  std::vector<Tensor> weights;
  for (const nn::Parameter& p : nn::parameters(e.model)) weights.push_back(*p.tensor);
  const std::vector<Tensor> gradients = gradient(loss, weights);
  std::vector<Ref> outputs = {node_of(loss)}, targets = {Ref()};
  for (size_t i = 0; i < weights.size(); i++) {
    outputs.push_back(node_of(weights[i] - gradients[i] * 0.01));
    targets.push_back(node_of(weights[i]));
  }
  return make_graph(outputs, targets);
}

// A step of a plan: leader and vendors of every group, directions, update.
Graph marketplace_step(std::string_view plan) {
  Example e;
  const std::vector<nn::Parameter> parameters = nn::parameters(e.model);
  marketplace::Options options;
  options.plan = marketplace::plan_of(plan);
  options.groups = marketplace::mnist_groups(options.plan);
  const Scalar key(int64_t{1}, DType::U64), counter(int64_t{0}, DType::U64), lr(options.lr),
      sigma(options.lr * options.probe_scale);
  const marketplace::StepInputs inputs{node_of(Tensor(key)), node_of(Tensor(counter)), node_of(Tensor(lr)),
                                       node_of(Tensor(sigma))};
  const auto members = marketplace::resolve(options.groups, options.plan, parameters);
  marketplace::find_channels(options.groups, options.plan, parameters, members);
  const marketplace::StepGraph step = marketplace::record_step(
      nn::classification(e.model), e.images, e.labels, parameters, options, members, inputs);
  std::vector<Ref> outputs = {step.loss}, targets = {Ref()};
  for (size_t i = 0; i < step.index.size(); i++) {
    outputs.push_back(step.changed[i]);
    targets.push_back(node_of(*parameters[step.index[i]].tensor));
  }
  return make_graph(outputs, targets);
}

struct Named {
  std::string_view name;
  Graph (*graph)();
};
constexpr Named models[] = {
    {"mnist-cnn", forward},
    {"mnist-cnn:step", training_step},
    {"gpt:2x128", [] { return gpt_step({.layers = 2, .width = 128, .heads = 4}); }},
    {"gpt:6x384", [] { return gpt_step({.layers = 6, .width = 384, .heads = 6}); }},
    {"gpt:2x128:fp8", [] { return gpt_step({.layers = 2, .width = 128, .heads = 4, .recipe = "fp8"}); }},
    {"gpt:6x384:fp8", [] { return gpt_step({.layers = 6, .width = 384, .heads = 6, .recipe = "fp8"}); }},
    {"gpt:12x384", [] { return gpt_step({.layers = 12, .width = 384, .heads = 6}); }},
};
constexpr std::string_view of_plans = "mnist-cnn:";  // and the name of a plan

}  // namespace

std::optional<Graph> named_graph(const std::string& name) {
  for (const Named& m : models)
    if (m.name == name) return m.graph();
  for (std::string_view plan : marketplace::plan_names())
    if (name == std::string(of_plans).append(plan)) return marketplace_step(plan);
  return {};
}

std::string model_names() {
  std::string out;
  for (const Named& m : models) out += fmt::format("{}{}", out.empty() ? "" : ", ", m.name);
  for (std::string_view plan : marketplace::plan_names()) out += fmt::format(", {}{}", of_plans, plan);
  return out;
}

std::string shipped_data(const std::string& name) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  const fs::path places[] = {fs::path("data") / name, program / "../../data" / name,
                             program / "../share/kontor" / name};
  std::string tried;
  for (const fs::path& p : places) {
    if (fs::exists(p, ignored)) return p.lexically_normal().string();
    tried += "\n  " + p.lexically_normal().string();
  }
  fail("the dataset {} that comes with Kontor is not there; looked for:{}\nName another with --data", name,
       tried);
}

}  // namespace kontor::tools
