// See telemetry.h.
#include "tools/telemetry.h"

#include <cmath>
#include <limits>
#include <map>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "graph/dtype.h"
#include "graph/recording.h"
#include "graph/scalar.h"
#include "graph/shape.h"
#include "graph/transforms/gradient.h"

namespace kontor::tools {

namespace {

constexpr size_t kNumbers = 5;  // of each value

/// Mean square, greatest size, parts that become 0 and are beyond, mean square of what rounding adds.
std::vector<Tensor> numbers_of(const scalify::Rounded& r) {
  const Tensor x = tensor_of(r.data).cast(DType::F32), y = tensor_of(r.result).cast(DType::F32);
  const Tensor size = x.abs(), lost = (y == 0.0).cast(DType::F32) * (x != 0.0).cast(DType::F32);
  return {x.square().mean(), size.max(), lost.mean(), (size > greatest(r.format)).cast(DType::F32).mean(),
          (x - y).square().mean()};
}

std::string made_by(const Node& n) { return n.is(Op::Call) ? n.arg.text : std::string(row(n.op).name); }

void take(Rounding& r, double exponent, const float* n) {
  r.log2_rms = std::log2(std::sqrt(double{n[0]})), r.log2_max = std::log2(double{n[1]});
  r.underflow = n[2], r.overflow = n[3];
  r.sqnr = 10 * std::log10(double{n[0]} / std::max(double{n[4]}, 1e-30));
  r.seen = std::floor(r.log2_rms) + exponent;
}

/// JSON has no infinities.
nlohmann::ordered_json number(double x) {
  return std::isfinite(x) ? nlohmann::ordered_json(x) : nlohmann::ordered_json(nullptr);
}

nlohmann::ordered_json as_json(const Rounding& r) {
  return {{"name", r.name},
          {"shape", r.shape},
          {"format", name(r.format)},
          {"of_gradient", r.of_gradient},
          {"exponent", r.exponent},
          {"seen", number(r.seen)},
          {"log2_rms", number(r.log2_rms)},
          {"log2_max", number(r.log2_max)},
          {"underflow", number(r.underflow)},
          {"overflow", number(r.overflow)},
          {"sqnr_db", number(r.sqnr)}};
}

Rounding from_json(const Json& j) {
  constexpr double none = std::numeric_limits<double>::quiet_NaN(),
                   of_zeros = -std::numeric_limits<double>::infinity();
  const auto number = [&](const char* key, double otherwise) {
    return j.at(key).is_null() ? otherwise : j.at(key).get<double>();
  };
  return {.name = j.at("name").get<std::string>(),
          .shape = j.at("shape").get<std::string>(),
          .format = parse_dtype(j.at("format").get<std::string>()),
          .of_gradient = j.at("of_gradient").get<bool>(),
          .exponent = j.at("exponent").get<std::string>(),
          .log2_rms = number("log2_rms", of_zeros),
          .log2_max = number("log2_max", of_zeros),
          .underflow = number("underflow", none),
          .overflow = number("overflow", none),
          .sqnr = number("sqnr_db", none),
          .seen = number("seen", none)};
}

}  // namespace

Telemetry::Telemetry(nn::Objective objective, const std::vector<nn::Parameter>& parameters)
    : objective_(std::move(objective)) {
  for (const nn::Parameter& p : parameters)
    if (p.trained) leaves_.push_back(p.tensor);
  run_ = jit([this](const Tensor& x, const Tensor& labels) { return record(x, labels); });
}

std::vector<Tensor> Telemetry::record(const Tensor& x, const Tensor& labels) {
  const Ref loss = node_of(objective_(x, labels).loss);
  std::vector<Ref> wrt, outputs{loss};
  for (const Tensor* t : leaves_) wrt.push_back(node_of(t->cast(DType::F32)));
  for (Ref& g : gradient(loss, wrt)) outputs.push_back(std::move(g));
  const Graph graph = make_graph(outputs);
  const std::optional<scalify::Casting> casting = scalify::asked_for(graph);
  if (!casting) fail("telemetry: the loss asks for no scales");
  const scalify::Result made = scalify::scalify(graph, {.casting = *casting});
  about_.clear(), exponents_.clear();
  rescales_ = made.rescales;
  std::vector<Tensor> all;
  std::map<std::string, int> count;
  for (const scalify::Rounded& r : made.rounded) {
    const std::string kind = fmt::format("{} {}", r.of_gradient ? "backward" : "forward", made_by(*r.value));
    about_.push_back({.name = fmt::format("{} {}", kind, ++count[kind]),
                      .shape = describe_shape(r.value->shape),
                      .format = r.format,
                      .of_gradient = r.of_gradient,
                      .exponent = scalify::describe(r.predicted)});
    exponents_.push_back(r.predicted.is_static() ? static_cast<double>(r.predicted.fixed)
                                                 : std::numeric_limits<double>::quiet_NaN());
    for (const Tensor& t : numbers_of(r)) all.push_back(t.reshape({1}));
  }
  return {all.empty() ? Tensor::zeros({1}) : cat(all, 0)};
}

std::vector<Rounding> Telemetry::measure(const Tensor& x, const Tensor& labels) {
  const std::vector<float> numbers = run_(x, labels)[0].to_vector<float>();
  std::vector<Rounding> out = about_;
  for (size_t i = 0; i < out.size(); ++i) take(out[i], exponents_[i], &numbers[kNumbers * i]);
  return out;
}

TelemetryLog read_telemetry(const std::string& path, int64_t below) {
  TelemetryLog log;
  const Json json = parse_json(read_file(path), path);
  try {
    for (const Json& batch : json) {
      const int64_t step = batch.at("step").get<int64_t>();
      if (step >= below) continue;
      log.steps.push_back(step), log.batches.emplace_back();
      for (const Json& value : batch.at("values")) log.batches.back().push_back(from_json(value));
    }
  } catch (const Json::exception& error) {
    fail("{}: is no telemetry: {}", path, error.what());
  }
  return log;
}

void TelemetryLog::write(const std::string& stem) const {
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  std::string table = "step,value,shape,format,exponent,seen,log2_rms,log2_max,underflow,overflow,sqnr_db\n";
  HeatMap map{.title = "log2 rms of what is rounded: 0 is where it was predicted", .x_label = "step"};
  for (size_t s = 0; s < steps.size(); ++s) {
    nlohmann::ordered_json values = nlohmann::ordered_json::array();
    map.columns.push_back(std::to_string(steps[s]));
    for (size_t i = 0; i < batches[s].size(); ++i) {
      const Rounding& r = batches[s][i];
      values.push_back(as_json(r));
      table += fmt::format("{},{},\"{}\",{},{},{},{:.4f},{:.4f},{:.6g},{:.6g},{:.2f}\n", steps[s], r.name,
                           r.shape, name(r.format), r.exponent, r.seen, r.log2_rms, r.log2_max, r.underflow,
                           r.overflow, r.sqnr);
      if (map.rows.size() <= i)
        map.rows.push_back(fmt::format("{} {}", r.name, name(r.format))), map.values.emplace_back(s, none);
      map.values[i].push_back(r.log2_rms);
    }
    for (std::vector<double>& row : map.values) row.resize(s + 1, none);  // what this batch does not have
    json.push_back({{"step", steps[s]}, {"values", values}});
  }
  write_file(stem + ".json", json.dump(1) + "\n");
  write_file(stem + ".csv", table);
  write_file(stem + ".svg", format_svg(map));
  write_file(stem + ".png", format_png(map));
}

}  // namespace kontor::tools
