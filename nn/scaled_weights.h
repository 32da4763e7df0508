// Weights in FP8 with their scales beside them, in the layouts of safetensors files that vLLM and Hugging Face read.
#pragma once
#include <span>
#include <string>
#include <vector>

#include <kontor/nn.h>

namespace kontor::inline v0::nn {

/// A weight's scale stands in the file under the weight's name and a suffix; value = data * scale in both layouts.
enum class ScaleLayout : uint8_t {
  Tensor,  // "x.weight_scale": f32 of one element (vLLM's quantization "fp8", compressed-tensors)
  Blocks,  // "x.weight_scale_inv": f32 [ceil(out / 128), ceil(in / 128)] (DeepSeek-V3's files, Hugging Face's FineGrainedFP8)
};
constexpr int64_t scale_block = 128;

/// A matrix as it stands in a file: data f8e4m3 or f8e5m2 [out, in].
struct ScaledWeight {
  std::string name;  // "x.weight"
  Tensor data, scales;
  ScaleLayout layout = ScaleLayout::Tensor;
  /// f32 [out, in].
  Tensor value() const;
};
/// x [out, in] rounded to f8e4m3 by the greatest size in it, or in each block.
ScaledWeight scaled_weight(const std::string& name, const Tensor& x, ScaleLayout layout);

/// Writes scaled weights and others, as they are, to one safetensors file, atomically. Throws Error if a name stands twice.
void save_scaled(const std::string& path, std::span<const ScaledWeight> weights,
                 std::span<const Parameter> others, const Metadata& metadata = {});

struct ScaledFile {
  std::vector<ScaledWeight> weights;
  std::vector<std::pair<std::string, Tensor>> others;
  Metadata metadata;
};
/// Reads such a file: all of it has the bits that were written. Throws Error that names the tensor if an f8 matrix has no scale or a scale
/// no matrix, if a scale's shape or dtype fits neither layout, or if one is not a finite number above 0.
ScaledFile load_scaled(const std::string& path);
/// The same as values of a model's parameters, in their dtypes. Throws Error that lists what is missing, superfluous or of another shape.
Metadata load_scaled_parameters(const std::string& path, std::span<const Parameter> parameters);

}  // namespace kontor::inline v0::nn
