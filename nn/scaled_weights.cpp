// See scaled_weights.h. A file is taken as from a stranger: each scale is looked at.
#include "nn/scaled_weights.h"

#include <cmath>
#include <unordered_map>

#include "base/error.h"
#include "graph/dtype.h"
#include "nn/safetensors.h"

namespace kontor::inline v0::nn {

namespace {

constexpr std::string_view tensor_suffix = "_scale", block_suffix = "_scale_inv";

std::string_view suffix_of(ScaleLayout layout) {
  return layout == ScaleLayout::Tensor ? tensor_suffix : block_suffix;
}

bool is_f8(DType dtype) { return is_float(dtype) && item_size(dtype) == 1; }

int64_t blocks_in(int64_t n) { return (n + scale_block - 1) / scale_block; }

ArrayRecord record_of(const std::string& name, const Tensor& x) {
  std::vector<std::byte> bytes(static_cast<size_t>(x.elements() * item_size(x.dtype())));
  x.read(bytes.data(), bytes.size());
  return {name, x.dtype(), x.shape(), std::move(bytes)};
}

Tensor tensor_of_record(const ArrayRecord& a) {
  return Tensor::from_memory(a.bytes.data(), a.dtype, Shape(a.shape.begin(), a.shape.end()));
}

std::string text_of(const ArrayRecord& a) {
  return fmt::format("{} is {}[{}]", a.name, kontor::name(a.dtype), fmt::join(a.shape, ", "));
}

/// Throws Error if these are no scales of that weight.
void check_scales(const ArrayRecord& scales, const ArrayRecord& weight, ScaleLayout layout,
                  const std::string& path) {
  if (scales.dtype != DType::F32 && scales.dtype != DType::BF16 && scales.dtype != DType::F16)
    fail("{}: {}: scales are f32, bf16 or f16", path, text_of(scales));
  const std::vector<int64_t> blocks{blocks_in(weight.shape[0]), blocks_in(weight.shape[1])};
  const Tensor x = tensor_of_record(scales);
  if (layout == ScaleLayout::Blocks ? scales.shape != blocks : x.elements() != 1)
    fail("{}: {}, where {}: {}", path, text_of(scales), text_of(weight),
         layout == ScaleLayout::Blocks
             ? fmt::format("a scale for each 128 x 128 is [{}]", fmt::join(blocks, ", "))
             : "a scale of a tensor is one number");
  const std::vector<float> values = x.to_vector<float>();
  for (size_t i = 0; i < values.size(); ++i)
    if (!(values[i] > 0) || std::isinf(values[i]))
      fail("{}: {}: scale {} is {}, not a finite number above 0", path, scales.name, i, values[i]);
}

using Records = std::unordered_map<std::string_view, const ArrayRecord*>;

/// The scales of a weight, where it has some.
const ArrayRecord* scales_of(const ArrayRecord& weight, const Records& all, ScaleLayout& layout) {
  for (const ScaleLayout l : {ScaleLayout::Blocks, ScaleLayout::Tensor}) {
    const auto it = all.find(weight.name + std::string(suffix_of(l)));
    if (it == all.end()) continue;
    layout = l;
    return it->second;
  }
  return nullptr;
}

/// Whether it is named as the scales of another array.
bool is_scale(const ArrayRecord& a, const Records& all) {
  for (const std::string_view suffix : {block_suffix, tensor_suffix})
    if (a.name.ends_with(suffix) &&
        all.contains(std::string_view(a.name).substr(0, a.name.size() - suffix.size())))
      return true;
  return false;
}

bool looks_like_a_scale(const ArrayRecord& a) {
  return a.name.ends_with("weight_scale") || a.name.ends_with("weight_scale_inv");
}

}  // namespace

Tensor ScaledWeight::value() const {
  const Tensor wide = scales.cast(DType::F32);
  if (layout == ScaleLayout::Tensor) return data.cast(DType::F32) * wide.reshape({});
  return dequantise({data, wide, {}}, {scale_block, scale_block});
}

ScaledWeight scaled_weight(const std::string& name, const Tensor& x, ScaleLayout layout) {
  if (x.rank() != 2) fail("scaled weights: {} has {} axes, not 2", name, x.rank());
  const bool whole = layout == ScaleLayout::Tensor;
  const QuantisedTensor q =
      quantise(x.cast(DType::F32),
               {.format = "f8e4m3",
                .scale = "f32",
                .block = whole ? std::vector<int64_t>{} : std::vector<int64_t>{scale_block, scale_block}});
  return {name, q.data, whole ? q.scales.reshape({}) : q.scales, layout};
}

void save_scaled(const std::string& path, std::span<const ScaledWeight> weights,
                 std::span<const Parameter> others, const Metadata& metadata) {
  ArrayFile file;
  file.metadata = metadata;
  for (const ScaledWeight& w : weights) {
    file.arrays.push_back(record_of(w.name, w.data));
    file.arrays.push_back(record_of(w.name + std::string(suffix_of(w.layout)), w.scales));
  }
  for (const Parameter& p : others) file.arrays.push_back(record_of(p.name, *p.tensor));
  write_safetensors(path, file);
}

ScaledFile load_scaled(const std::string& path) {
  const ArrayFile file = read_safetensors(path);
  Records all;
  for (const ArrayRecord& a : file.arrays) all.emplace(a.name, &a);
  ScaledFile out{.weights = {}, .others = {}, .metadata = file.metadata};
  for (const ArrayRecord& a : file.arrays) {
    if (is_scale(a, all)) continue;
    if (looks_like_a_scale(a)) fail("{}: {}: there is no weight that it is a scale of", path, a.name);
    ScaleLayout layout = ScaleLayout::Tensor;
    const ArrayRecord* scales = scales_of(a, all, layout);
    if (!scales && is_f8(a.dtype) && a.shape.size() == 2)
      fail("{}: {}: it has neither {}{} nor {}{}", path, text_of(a), a.name, tensor_suffix, a.name,
           block_suffix);
    if (!scales) {
      out.others.emplace_back(a.name, tensor_of_record(a));
      continue;
    }
    if (!is_f8(a.dtype) || a.shape.size() != 2)
      fail("{}: {}, but has scales: needs f8 [out, in]", path, text_of(a));
    check_scales(*scales, a, layout, path);
    out.weights.push_back({a.name, tensor_of_record(a), tensor_of_record(*scales), layout});
  }
  return out;
}

Metadata load_scaled_parameters(const std::string& path, std::span<const Parameter> parameters) {
  const ScaledFile file = load_scaled(path);
  std::unordered_map<std::string, Tensor> values;
  for (const ScaledWeight& w : file.weights) values.emplace(w.name, w.value());
  for (const auto& [name, x] : file.others) values.emplace(name, x);
  std::string wrong;
  for (const Parameter& p : parameters) {
    const auto it = values.find(p.name);
    if (it == values.end()) wrong += fmt::format("; missing: {}", p.name);
    else if (it->second.shape() != p.tensor->shape())
      wrong += fmt::format("; {} is [{}], not [{}]", p.name, fmt::join(it->second.shape(), ", "),
                           fmt::join(p.tensor->shape(), ", "));
  }
  if (wrong.empty() && values.size() != parameters.size())
    wrong = fmt::format("; it holds {} tensors, the model {}", values.size(), parameters.size());
  if (!wrong.empty()) fail("{}: {}", path, wrong.substr(2));
  std::vector<Tensor*> changed;
  for (const Parameter& p : parameters) {
    p.tensor->assign(values.at(p.name));
    changed.push_back(p.tensor);
  }
  realize_all(changed);
  return file.metadata;
}

}  // namespace kontor::inline v0::nn
