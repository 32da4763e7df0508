// Ops that are no primitives: their formulas, in place where these are short, else as functions.
#include <algorithm>
#include <map>

#include "base/error.h"
#include "codegen/render_c/dialect.h"
#include "codegen/tree/decompose.h"
#include "codegen/tree/tree.h"
#include "graph/node_map.h"

namespace kontor::clike {

namespace {

constexpr Natives natives{};

/// How often each node of a formula is used by others; sources of the whole, which are Slots, too.
NodeMap<int> uses_in(const Ref& formula) {
  NodeMap<int> uses;
  for (const Node* n : topological(std::span(&formula, 1)))
    for (const Ref& s : n->src) uses[s.get()]++;
  return uses;
}

/// Whether a formula reads well in place: no node but constants is used twice.
bool is_short(const Ref& formula) {
  const NodeMap<int> uses = uses_in(formula);
  return std::all_of(uses.begin(), uses.end(),
                     [](const auto& use) { return use.second == 1 || use.first->is_const(); });
}

/// "max_f32", "i32_of_f32", "bits_of_bf16".
std::string name_of(const Node& n) {
  const std::string_view from = name(n[0]->dtype), to = name(n.dtype);
  if (n.op == Op::Cast) return fmt::format("{}_of_{}", to, from);
  if (n.op == Op::Bitcast)
    return is_narrow(n.dtype) ? fmt::format("{}_of_bits", to) : fmt::format("bits_of_{}", from);
  return fmt::format("{}_{}", kontor::row(n.op).name, from);
}

/// The node on numbered Slots of unknown value.
Ref on_slots(const Node& n) {
  std::vector<Ref> src;
  for (const Ref& s : n.src) src.push_back(tree::slot(s->dtype, static_cast<int64_t>(src.size())));
  return make(n.op, src, n.arg, n.dtype);
}

}  // namespace

Text call(std::string_view function, std::span<const Text> args) {
  std::string out = fmt::format("{}(", function);
  for (size_t i = 0; i < args.size(); i++) out += (i ? ", " : "") + args[i].text;
  return {out + ")"};
}

/// A formula over Slots, for which `args` stand.
Text Speller::inlined(const Ref& formula, std::span<const Text> args) {
  if (formula->is_const()) return literal(*formula);
  if (formula->op == Op::Slot) return args[static_cast<size_t>(formula->at(0))];
  std::vector<Text> sources;
  for (const Ref& s : formula->src) sources.push_back(inlined(s, args));
  return apply(*formula, sources);
}

/// A function with a line for each value that is used more than once.
std::string Speller::define(const std::string& name, const Ref& formula) {
  const NodeMap<int> uses = uses_in(formula);
  NodeMap<Text> texts;
  std::map<int64_t, std::string> parameters;
  std::string lines;
  for (const Node* inside : topological(std::span(&formula, 1))) {
    if (inside->op == Op::Slot) {
      const std::string parameter(1, static_cast<char>('a' + inside->at(0)));
      texts[inside] = {parameter};
      parameters[inside->at(0)] = fmt::format("{} {}", variable_type(inside->dtype), parameter);
      continue;
    }
    std::vector<Text> sources;
    for (const Ref& s : inside->src) sources.push_back(texts.at(s.get()));
    Text text = inside->is_const() ? literal(*inside) : apply(*inside, sources);
    if (auto it = uses.find(inside); it != uses.end() && it->second > 1 && !inside->is_const()) {
      const std::string variable = fmt::format("v{}", std::count(lines.begin(), lines.end(), '\n'));
      lines += fmt::format("  const {} {} = {};\n", variable_type(inside->dtype), variable, text.text);
      text = {variable};
    }
    texts[inside] = text;
  }
  std::string list;
  for (const auto& [number, text] : parameters) list += (list.empty() ? "" : ", ") + text;
  const std::string head =
      fmt::format("{} {} {}({}) {{", row_.function, variable_type(formula->dtype), name, list);
  const std::string& result = texts.at(formula.get()).text;
  if (lines.empty()) return fmt::format("{} return {}; }}\n", head, result);
  return fmt::format("{}\n{}  return {};\n}}\n", head, lines, result);
}

Text Speller::apply(const std::string& name, const Ref& formula, std::span<const Text> args) {
  if (is_short(formula)) return inlined(formula, args);
  if (known_.insert(name).second) {
    const std::string definition = define(name, formula);  // after those that it uses
    helpers_.push_back(definition);
  }
  std::vector<Text> used;  // a formula may do without a Slot
  std::map<int64_t, Text> given;
  for (const Node* s : topological(std::span(&formula, 1)))
    if (s->op == Op::Slot) given[s->at(0)] = args[static_cast<size_t>(s->at(0))];
  for (const auto& [number, text] : given) used.push_back(text);
  return call(name, used);
}

Text Speller::apply(const Node& n, std::span<const Text> args) {
  if (!is_elementwise(n.op)) broken("C renderer: {} is no elementwise op", kontor::row(n.op).name);
  if (!decompose(n, natives)) return primitive(n, args);
  const Ref general = on_slots(n), formula = decompose(*general, natives);
  return apply(name_of(n), formula ? formula : general, args);
}

std::string Speller::helpers() const {
  std::string out;
  for (const std::string& h : helpers_) out += h;
  return out;
}

}  // namespace kontor::clike
