// Recipes: which part of training is kept in which format, as data. Built-in ones, and files that say the same of a user's own.
#pragma once
#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <kontor/functions.h>
#include <kontor/nn.h>

#include "scalify/casting.h"

namespace kontor::scalify {

/// What a value is to training.
enum class Role : uint8_t { Weight, Activation, Gradient, State, Master, Communication };
constexpr size_t role_count = 6;

/// Where a scale comes from.
enum class Scaling : uint8_t {
  None,  // 1
  Propagated,  // Scalify: a power of two that follows from those of what the value is computed from (arXiv 2407.17353)
  Measured,  // the greatest size in each block, by a rule of Quantisation::scale
};

/// When a propagated scale is fitted to what the values came to.
enum class Rescale : uint8_t {
  None,
  Norms,   // gradients, where a normalisation hands them back: two a transformer layer
  Each,    // each value of the role
  Placed,  // where calibration saw a tensor leave its format's flat range
};

struct RoleFormat {
  std::string format = "f32";
  Scaling scaling = Scaling::None;
  std::string scale = "none";       ///< where it is measured: f32 e8m0 pow2 e4m3
  std::vector<int64_t> block = {};  ///< where it is measured: extents along the last axes; none: the tensor
  bool stochastic = false;
  bool hadamard = false;  ///< of gradients: before the product that makes a weight's gradient
  Rescale rescale = Rescale::None;
  friend bool operator==(const RoleFormat&, const RoleFormat&) = default;
  Quantisation quantisation() const;
};

/// What holds of layers whose name fits, and there of one role, or (none) of all.
struct LayerRule {
  std::string pattern;  ///< * stands for any letters, ? for one
  std::optional<Role> role;
  RoleFormat format;
  friend bool operator==(const LayerRule&, const LayerRule&) = default;
};

struct Recipe {
  std::string name, about;
  std::array<RoleFormat, role_count> roles = {};
  std::vector<LayerRule> layers = {};  ///< the last one that fits holds
  friend bool operator==(const Recipe&, const Recipe&) = default;

  const RoleFormat& of(Role role, std::string_view layer = {}) const;
  /// Whether scales are corrected where calibration sees values leave their format's flat range.
  bool is_placed() const { return of(Role::Gradient).rescale == Rescale::Placed; }
  /// Whether a scale of it is propagated: then it is for the pass over the graph.
  bool propagates() const;
  bool measures() const;  ///< whether a scale of what products read is
  /// Whether it is for the pass over the graph: scales are propagated, or there are none and no layer is named. Else it is for the products
  /// of linear layers, and Adam's moments.
  bool is_for_graph() const { return propagates() || (!measures() && layers.empty()); }
};

std::string_view name(Role role);
/// All built-in ones, each with where it is from.
std::span<const Recipe> recipes();
/// A built-in one by name, or the recipe in that file, which has a '/' or a '.' in its name. Throws Error that names the known ones.
Recipe find_recipe(const std::string& name_or_file);

/// The text form, as in docs/scalify.md: a line a role. parse_recipe(print(r)) == r.
std::string print(const Recipe& recipe);
/// Throws Error that begins with `source` and the line, and names what there is.
Recipe parse_recipe(std::string_view text, std::string_view source);

/// Throws Error if a pattern fits none of the layers.
void check_layers(const Recipe& recipe, std::span<const std::string> layers);
/// What the pass over the graph rounds. Throws Error for what it does not do: measured scales of what products read, layers of their own.
Casting casting_of(const Recipe& recipe);
/// What weights are kept in from step to step. Throws Error for formats of fewer than 16 bits.
DType master_of(const Recipe& recipe);
/// What the gradients of weights are kept in until they are used: role communication. Throws Error if their scales are measured.
DType weight_gradient_of(const Recipe& recipe);
/// How Adam keeps its moments, and writes weights. A scale that is propagated is that of the whole tensor, fitted at each step.
nn::AdamStates adam_states_of(const Recipe& recipe);
/// How the products of a layer of this name are rounded. Throws Error if its scales are propagated.
ProductRecipe product_recipe(const Recipe& recipe, std::string_view layer);

}  // namespace kontor::scalify
