// A recipe as text: "recipe NAME", "about TEXT", a line a role, and lines for layers; '#' begins a remark.
//
//   recipe mine
//   weight f4e2m1 scale=e4m3 block=16x16
//   gradient f4e2m1 scale=e4m3 block=16 rounding=stochastic hadamard
//   layer blocks.0.* all f32
//   layer *.down weight f8e4m3 scale=f32
#include <charconv>

#include "base/error.h"
#include "graph/functions/quantise.h"
#include "scalify/recipes.h"

namespace kontor::scalify {

namespace {

constexpr std::string_view role_names[role_count] = {"weight", "activation", "gradient",
                                                     "state",  "master",     "communication"};
struct RescaleRow {
  Rescale rescale;
  std::string_view name;
};
constexpr RescaleRow rescales[] = {
    {Rescale::None, "none"}, {Rescale::Norms, "norms"}, {Rescale::Each, "each"}, {Rescale::Placed, "placed"}};
constexpr std::string_view propagated = "propagated", all_roles = "all";

/// A line's place in a file, for errors.
struct Place {
  std::string_view source;
  int line;
  template <class... A>
  [[noreturn]] void refuse(fmt::format_string<A...> text, A&&... args) const {
    fail("{}, line {}: {}", source, line, fmt::format(text, std::forward<A>(args)...));
  }
};

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> out;
  line = line.substr(0, line.find('#'));
  while (true) {
    const size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos) return out;
    const size_t end = std::min(line.find_first_of(" \t\r", begin), line.size());
    out.push_back(line.substr(begin, end - begin));
    line.remove_prefix(end);
  }
}

std::optional<Role> role_of(std::string_view word) {
  for (size_t i = 0; i < role_count; i++)
    if (role_names[i] == word) return static_cast<Role>(i);
  return {};
}

/// "tensor", "32" (one row), "128x128", "0": a whole axis.
std::vector<int64_t> block_of(std::string_view text, const Place& at) {
  if (text == "tensor") return {};
  std::vector<int64_t> out;
  const char *p = text.data(), *end = p + text.size();
  while (p < end) {
    int64_t n = -1;
    const auto [next, wrong] = std::from_chars(p, end, n);
    if (wrong != std::errc() || n < 0 || (next < end && (*next != 'x' || next + 1 == end))) break;
    out.push_back(n);
    p = next < end ? next + 1 : next;
  }
  if (p < end || out.empty() || out.size() > 2)
    at.refuse("'{}' is no block: tensor, a length (32), or rows x columns (128x128)", text);
  if (out.size() == 1) out.insert(out.begin(), 1);
  return out;
}

std::string block_text(const std::vector<int64_t>& block) {
  return block.empty()   ? "tensor"
         : block[0] == 1 ? fmt::format("{}", block[1])
                         : fmt::format("{}", fmt::join(block, "x"));
}

Rescale rescale_of(std::string_view word, const Place& at) {
  std::string known;
  for (const RescaleRow& r : rescales) {
    if (r.name == word) return r.rescale;
    known += fmt::format(" {}", r.name);
  }
  at.refuse("unknown rescale '{}'; known:{}", word, known);
}

/// One word behind the format.
void take_option(RoleFormat& f, std::string_view word, const Place& at) {
  const size_t equals = word.find('=');
  const std::string_view key = word.substr(0, equals),
                         value = equals == std::string_view::npos ? "" : word.substr(equals + 1);
  if (word == "hadamard") f.hadamard = true;
  else if (key == "scale" && value == propagated) f.scaling = Scaling::Propagated;
  else if (key == "scale") {
    f.scale = value;
    f.scaling = find_scale_kind("scale", value) == ScaleKind::None ? Scaling::None : Scaling::Measured;
  } else if (key == "block") f.block = block_of(value, at);
  else if (key == "rounding" && (value == "nearest" || value == "stochastic"))
    f.stochastic = value == "stochastic";
  else if (key == "rescale") f.rescale = rescale_of(value, at);
  else at.refuse("'{}' is none of: scale= block= rounding=nearest|stochastic rescale= hadamard", word);
}

void check(const RoleFormat& f, const Place& at) {
  if (f.scaling != Scaling::Measured && !f.block.empty())
    at.refuse("a block has a scale that is measured in it");
  if (f.scaling != Scaling::Propagated && f.rescale != Rescale::None)
    at.refuse("only scales that are propagated are fitted again");
  if (f.stochastic && f.format == "bf16") at.refuse("stochastic rounding to bf16 is not there");
}

RoleFormat format_of(std::span<const std::string_view> words, const Place& at) {
  if (words.empty()) at.refuse("no format is named");
  RoleFormat f;
  try {
    f.format = find_element_format("format", words[0]).name;
    for (std::string_view word : words.subspan(1)) take_option(f, word, at);
  } catch (const Error& e) {
    const std::string text = e.what();
    if (text.starts_with(at.source)) throw;
    fail("{}, line {}: {}", at.source, at.line, text);
  }
  check(f, at);
  return f;
}

std::string format_text(const RoleFormat& f) {
  std::string out = f.format;
  if (f.scaling == Scaling::Propagated) out += fmt::format(" scale={}", propagated);
  if (f.scaling == Scaling::Measured) out += fmt::format(" scale={} block={}", f.scale, block_text(f.block));
  if (f.stochastic) out += " rounding=stochastic";
  if (f.hadamard) out += " hadamard";
  for (const RescaleRow& r : rescales)
    if (r.rescale == f.rescale && f.rescale != Rescale::None) out += fmt::format(" rescale={}", r.name);
  return out;
}

LayerRule layer_of(std::span<const std::string_view> words, const Place& at) {
  if (words.size() < 3) at.refuse("a layer line is: layer PATTERN ROLE|all FORMAT ..");
  LayerRule rule{.pattern = std::string(words[0]), .role = role_of(words[1]), .format = {}};
  if (!rule.role && words[1] != all_roles)
    at.refuse("unknown role '{}'; known: {} {}", words[1], fmt::join(role_names, " "), all_roles);
  rule.format = format_of(words.subspan(2), at);
  return rule;
}

/// What is left of a line behind its first word.
std::string rest_of(std::string_view line) {
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  line.remove_prefix(std::min(line.find_first_of(" \t"), line.size()));
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
  return std::string(line);
}

void take_line(Recipe& recipe, std::array<bool, role_count>& given, std::string_view line, const Place& at) {
  const std::vector<std::string_view> words = words_of(line);
  if (words.empty()) return;
  const auto rest = std::span(words).subspan(1);
  if (words[0] == "recipe") {
    if (rest.size() != 1 || !recipe.name.empty()) at.refuse("a recipe has one name, one word");
    recipe.name = rest[0];
  } else if (words[0] == "about") recipe.about = rest_of(line);
  else if (words[0] == "layer") recipe.layers.push_back(layer_of(rest, at));
  else if (const std::optional<Role> role = role_of(words[0])) {
    bool& there = given[static_cast<size_t>(*role)];
    if (there) at.refuse("{} stands twice", words[0]);
    there = true;
    recipe.roles[static_cast<size_t>(*role)] = format_of(rest, at);
  } else at.refuse("unknown role '{}'; known: {}", words[0], fmt::join(role_names, " "));
}

}  // namespace

std::string_view name(Role role) { return role_names[static_cast<size_t>(role)]; }

std::string print(const Recipe& recipe) {
  std::string out = fmt::format("recipe {}\n", recipe.name);
  if (!recipe.about.empty()) out += fmt::format("about {}\n", recipe.about);
  for (size_t i = 0; i < role_count; i++)
    out += fmt::format("{} {}\n", role_names[i], format_text(recipe.roles[i]));
  for (const LayerRule& l : recipe.layers)
    out +=
        fmt::format("layer {} {} {}\n", l.pattern, l.role ? name(*l.role) : all_roles, format_text(l.format));
  return out;
}

Recipe parse_recipe(std::string_view text, std::string_view source) {
  Recipe recipe;
  std::array<bool, role_count> given{};
  for (int line = 1; !text.empty(); line++) {
    const size_t end = std::min(text.find('\n'), text.size());
    take_line(recipe, given, text.substr(0, end), {source, line});
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (recipe.name.empty()) fail("{}: no line says 'recipe NAME'", source);
  return recipe;
}

}  // namespace kontor::scalify
