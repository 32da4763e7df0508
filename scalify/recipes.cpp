// The built-in recipes, and what a recipe says of a layer. Their text form is recipe_text.cpp.
#include "scalify/recipes.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/lasting.h"

namespace kontor::scalify {

namespace {

constexpr Scaling Propagated = Scaling::Propagated, Measured = Scaling::Measured;

RoleFormat plain(const char* format) { return {.format = format}; }
RoleFormat propagated(const char* format, Rescale rescale = Rescale::None) {
  return {.format = format, .scaling = Propagated, .rescale = rescale};
}
RoleFormat measured(const char* format, const char* scale, std::vector<int64_t> block = {}) {
  return {.format = format, .scaling = Measured, .scale = scale, .block = std::move(block)};
}
RoleFormat turned(RoleFormat f) {
  f.hadamard = f.stochastic = true;
  return f;
}
RoleFormat drawn(RoleFormat f) {
  f.stochastic = true;
  return f;
}

/// One of the paper's rows of table 3.
Recipe paper(const char* number, const char* about, const char* products, const char* gradients,
             const char* master, const char* state, Rescale of_gradients, Rescale of_state) {
  return {.name = fmt::format("fp8-paper-{}", number),
          .about = about,
          .roles = {propagated(products), propagated(products), propagated(gradients, of_gradients),
                    propagated(state, of_state), propagated(master), propagated(gradients)}};
}

std::vector<Recipe> built_in() {
  const RoleFormat f32 = plain("f32");
  // clang-format off
  return {
      {"f32-pass", "Scalify, and nothing is rounded: the bits of no recipe",
       {propagated("f32"), propagated("f32"), propagated("f32"), f32, f32, f32}},
      {"fp16", "Scalify in f16, weights too, which are written stochastically; no loss is scaled (arXiv 2407.17353)",
       {propagated("f16"), propagated("f16"), propagated("f16"), f32, drawn(plain("f16")), f32}},
      {"fp8", "Scalify: products of E4M3 forward and E5M2 gradients, all else that layers make f16; weights f16, written stochastically; moments E4M3, gradients of weights E5M2",
       {propagated("f8e4m3"), propagated("f8e4m3"), propagated("f8e5m2"), measured("f8e4m3", "f32", {1, 128}), drawn(plain("f16")), propagated("f8e5m2")}},
      {"fp8-placed", "fp8, and scales are corrected where calibration sees values leave the flat range of their formats",
       {propagated("f8e4m3"), propagated("f8e4m3"), propagated("f8e5m2", Rescale::Placed), measured("f8e4m3", "f32", {1, 128}), drawn(plain("f16")), propagated("f8e5m2")}},
      {"fp8-unscaled", "the same formats and no scales: what those are for, it trains badly",
       {plain("f8e4m3"), plain("f8e4m3"), plain("f8e5m2"), f32, f32, f32}},
      paper("1", "Scalify's paper, table 3: FP16 #1", "f16", "f16", "f32", "f32", Rescale::None, Rescale::None),
      paper("2", "Scalify's paper, table 3: FP16 #2", "f16", "f16", "f16", "f32", Rescale::Norms, Rescale::None),
      paper("3", "Scalify's paper, table 3: FP8 #3", "f8e4m3", "f8e5m2", "f16", "f32", Rescale::Norms, Rescale::None),
      paper("4", "Scalify's paper, table 3: FP8 #4", "f8e4m3", "f8e5m2", "f16", "f16", Rescale::Norms, Rescale::Each),
      {"fp8-current", "amax of each tensor, as Transformer Engine's Float8CurrentScaling (HYBRID)",
       {measured("f8e4m3", "f32"), measured("f8e4m3", "f32"), measured("f8e5m2", "f32"), f32, f32, f32}},
      {"mxfp8", "E4M3 in blocks of 32 with E8M0 scales that saturate nothing (OCP MX v1.0; the scale's rule: arXiv 2506.08027)",
       {measured("f8e4m3", "pow2", {1, 32}), measured("f8e4m3", "pow2", {1, 32}), measured("f8e4m3", "pow2", {1, 32}), f32, f32, f32}},
      {"fp8-block", "E4M3, tiles of 1x128 of activations and gradients, 128x128 of weights (DeepSeek-V3, arXiv 2412.19437, section 3.3)",
       {measured("f8e4m3", "f32", {128, 128}), measured("f8e4m3", "f32", {1, 128}), measured("f8e4m3", "f32", {1, 128}), f32, f32, f32}},
      {"mxfp4", "E2M1 in blocks of 32; gradients stochastic, in blocks that saturate nothing, turned by Hadamard's transform (arXiv 2502.20586, which leaves the forward product in BF16)",
       {measured("f4e2m1", "e8m0", {1, 32}), measured("f4e2m1", "e8m0", {1, 32}), turned(measured("f4e2m1", "pow2", {1, 32})), f32, f32, f32}},
      {"nvfp4", "E2M1 in blocks of 16 with two levels of scales, weights in tiles of 16x16; gradients stochastic, turned by Hadamard's transform; keep first and last layers by layer lines (arXiv 2509.25149)",
       {measured("f4e2m1", "e4m3", {16, 16}), measured("f4e2m1", "e4m3", {1, 16}), turned(measured("f4e2m1", "e4m3", {1, 16})), f32, f32, f32}},
  };
  // clang-format on
}

/// Whether text fits a pattern of letters, * and ?.
bool fits(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = std::string_view::npos, from = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') star = p++, from = t;
    else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) p++, t++;
    else if (star != std::string_view::npos) p = star + 1, t = ++from;
    else return false;
  }
  while (p < pattern.size() && pattern[p] == '*') p++;
  return p == pattern.size();
}

}  // namespace

Quantisation RoleFormat::quantisation() const {
  return {.format = format, .scale = scale, .block = block, .stochastic = stochastic};
}

const RoleFormat& Recipe::of(Role role, std::string_view layer) const {
  for (size_t i = layers.size(); i-- > 0;)
    if ((!layers[i].role || layers[i].role == role) && fits(layers[i].pattern, layer))
      return layers[i].format;
  return roles[static_cast<size_t>(role)];
}

// Whether what products read, or a layer's own line, has such scales. Weights and moments that are kept from step to step are
// the optimiser's, whatever computes the products.
static bool some(const Recipe& recipe, Scaling scaling) {
  const auto fits = [&](Role role) { return recipe.of(role).scaling == scaling; };
  return fits(Role::Weight) || fits(Role::Activation) || fits(Role::Gradient) ||
         std::any_of(recipe.layers.begin(), recipe.layers.end(),
                     [&](const LayerRule& l) { return l.format.scaling == scaling; });
}

bool Recipe::propagates() const { return some(*this, Propagated); }
bool Recipe::measures() const { return some(*this, Measured); }

std::span<const Recipe> recipes() {
  static const std::vector<Recipe>& all = lasting(built_in());
  return all;
}

Recipe find_recipe(const std::string& wanted) {
  std::string known;
  for (const Recipe& r : recipes()) {
    if (r.name == wanted) return r;
    known += fmt::format("{}{}", known.empty() ? "" : " ", r.name);
  }
  if (wanted.find_first_of("/.") == std::string::npos)
    fail("there is no recipe '{}'; there are: {}, and files, with a '.' or '/' in their names", wanted,
         known);
  return parse_recipe(read_file(wanted), wanted);
}

void check_layers(const Recipe& recipe, std::span<const std::string> layers) {
  for (const LayerRule& rule : recipe.layers)
    if (std::none_of(layers.begin(), layers.end(), [&](auto& l) { return fits(rule.pattern, l); }))
      fail("recipe {}: no layer is called '{}'; there are: {}", recipe.name, rule.pattern,
           fmt::join(layers, " "));
}

Casting casting_of(const Recipe& recipe) {
  const auto refuse = [&](std::string_view why) {
    fail("recipe {}: {}, which the pass over the graph does not do", recipe.name, why);
  };
  const RoleFormat &weight = recipe.of(Role::Weight), &gradient = recipe.of(Role::Gradient);
  if (!recipe.layers.empty()) refuse("layers have formats of their own");
  if (recipe.measures()) refuse("scales are measured");
  if (weight != recipe.of(Role::Activation)) refuse("weights and activations have different formats");
  if (gradient.rescale == Rescale::Each ||
      (weight.rescale != Rescale::None && weight.rescale != gradient.rescale))
    refuse("scales are fitted anew elsewhere than at norms, or placed");
  for (const RoleFormat* f : {&weight, &gradient})
    if (f->format == "f4e2m1") refuse("f4e2m1 is no format of a whole byte");
  const DType forward = parse_dtype(weight.format), backward = parse_dtype(gradient.format);
  const bool rounds = forward != DType::F32 || backward != DType::F32;
  return {forward, backward, rounds ? DType::F16 : DType::F32, !rounds || recipe.propagates()};
}

DType master_of(const Recipe& recipe) {
  const std::string& format = recipe.of(Role::Master).format;
  const bool wide = format == "f32" || format == "f16" || format == "bf16";
  if (!wide) fail("recipe {}: master weights in {}: there are f32, f16 and bf16", recipe.name, format);
  return parse_dtype(format);
}

DType weight_gradient_of(const Recipe& recipe) {
  const RoleFormat& f = recipe.of(Role::Communication);
  if (f.format != "f32" && f.scaling == Measured)
    fail("recipe {}: communication: gradients of weights have scales that are propagated", recipe.name);
  if (f.format == "f4e2m1")
    fail("recipe {}: communication: f4e2m1 is no format of a whole byte", recipe.name);
  return parse_dtype(f.format);
}

nn::AdamStates adam_states_of(const Recipe& recipe) {
  const RoleFormat& state = recipe.of(Role::State);
  Quantisation kept = state.quantisation();
  if (state.scaling == Propagated && state.format != "f32") kept.scale = "pow2";
  return {.m = kept,
          .v = kept,
          .stochastic = recipe.of(Role::Master).stochastic,
          .wide = master_of(recipe) != DType::F32};
}

ProductRecipe product_recipe(const Recipe& recipe, std::string_view layer) {
  const auto of = [&](Role role) -> Quantisation {
    const RoleFormat& f = recipe.of(role, layer);
    if (f.scaling == Propagated)
      fail("recipe {}: scales of {} are propagated through the graph: a product alone has none", recipe.name,
           name(role));
    return f.quantisation();
  };
  return {.input = of(Role::Activation),
          .weight = of(Role::Weight),
          .gradient = of(Role::Gradient),
          .hadamard = recipe.of(Role::Gradient, layer).hadamard};
}

}  // namespace kontor::scalify
