// The table of decisions, and lists of them as text.
#include "codegen/decisions.h"

#include <algorithm>

#include "base/error.h"

namespace kontor {

namespace {

struct VerbRow {
  Verb verb;
  std::string_view name;
  Matter matter;
  size_t least, most;  // words after the stage
};
constexpr size_t any = SIZE_MAX;

constexpr VerbRow verbs[] = {
    {Verb::Layout, "layout", Matter::Layout, 1, any},
    {Verb::Store, "store", Matter::Level, 0, 0},
    {Verb::At, "at", Matter::Level, 1, 1},
    {Verb::Inline, "inline", Matter::Level, 1, 1},
    {Verb::Fuse, "fuse", Matter::Level, 1, 1},
    {Verb::Stream, "stream", Matter::Stream, 0, any},
    {Verb::Block, "block", Matter::Stream, 2, any},
    {Verb::Moves, "moves", Matter::Moves, 1, any},
};
const VerbRow& row(Verb verb) { return verbs[static_cast<int>(verb)]; }

constexpr std::string_view matters[] = {"layout", "level", "stream", "moves"};
constexpr std::string_view ways[] = {"any", "as_stored", "computed", "panel", "copied", "turned"};

std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> out;
  while (true) {
    const size_t begin = line.find_first_not_of(" \t\r");
    if (begin == line.npos) return out;
    const size_t end = std::min(line.find_first_of(" \t\r", begin), line.size());
    out.emplace_back(line.substr(begin, end - begin));
    line.remove_prefix(end);
  }
}

Decision parse_line(std::vector<std::string> words, int number) {
  const auto* known =
      std::find_if(std::begin(verbs), std::end(verbs), [&](const VerbRow& r) { return r.name == words[0]; });
  if (known == std::end(verbs)) {
    std::vector<std::string_view> names;
    for (const VerbRow& r : verbs) names.push_back(r.name);
    fail("decisions, line {}: '{}' is not one of {}", number, words[0], fmt::join(names, ", "));
  }
  if (words.size() < 2) fail("decisions, line {}: '{}' of which stage?", number, words[0]);
  Decision d{known->verb, std::move(words[1]), {words.begin() + 2, words.end()}};
  if (d.words.size() < known->least || d.words.size() > known->most)
    fail("decisions, line {}: '{}' has {} words after the stage; it takes {}{}", number, d.text(),
         d.words.size(), known->least,
         known->most == known->least ? ""
         : known->most == any        ? " or more"
                                     : fmt::format(" to {}", known->most));
  return d;
}

}  // namespace

std::string_view name(OperandWay way) { return ways[static_cast<int>(way)]; }

std::string Decision::text() const {
  return fmt::format("{} {}{}{}", row(verb).name, stage, words.empty() ? "" : " ", fmt::join(words, " "));
}

void Decisions::require_one_each() const {
  std::map<std::pair<Matter, std::string_view>, const Decision*> seen;
  for (const Decision& d : list_) {
    const Matter matter = row(d.verb).matter;
    const auto [it, fresh] = seen.try_emplace({matter, d.stage}, &d);
    if (!fresh && matter != Matter::Stream)
      fail("decisions: '{}' and '{}' are both about the {} of one stage", it->second->text(), d.text(),
           matters[static_cast<int>(matter)]);
  }
}

const Decision* Decisions::of(Matter matter, const std::string& stage) const {
  if (list_.empty()) return nullptr;
  if (indexed_ != list_.size()) {
    index_.clear();
    for (size_t i = 0; i < list_.size(); i++)
      index_.try_emplace({row(list_[i].verb).matter, list_[i].stage}, i);
    indexed_ = list_.size();
  }
  const auto it = index_.find({matter, stage});
  if (it == index_.end()) return nullptr;
  list_[it->second].used = true;
  return &list_[it->second];
}

bool Decisions::has(Matter matter) const {
  return std::any_of(list_.begin(), list_.end(),
                     [&](const Decision& d) { return row(d.verb).matter == matter; });
}

void Decisions::require_followed() const {
  for (const Decision& d : list_)
    if (!d.used)
      reject(d, row(d.verb).matter == Matter::Moves ? "no kernel of its own has that name"
                                                    : "no stage has that name");
}

Decisions unfused(const Decisions& decided) {
  Decisions out;
  for (const Decision& d : decided.all()) {
    const Matter matter = row(d.verb).matter;
    if (matter == Matter::Layout) out.add({d.verb, d.stage, d.words});
    if (matter != Matter::Level) continue;
    out.add({Verb::Store, d.stage});
    out.add({Verb::Moves, d.stage, {"none"}});
  }
  out.add({Verb::Stream, "none"});
  return out;
}

std::string print(const Decisions& decisions) {
  std::string out;
  for (const Decision& d : decisions.all()) out += d.text() + "\n";
  return out;
}

Decisions parse_decisions(std::string_view text) {
  Decisions out;
  for (int number = 1; !text.empty(); number++) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    line = line.substr(0, line.find('#'));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (std::vector<std::string> words = words_of(line); !words.empty())
      out.add(parse_line(std::move(words), number));
  }
  out.require_one_each();
  return out;
}

void reject(const Decision& decision, const std::string& why) {
  fail("the decision '{}' can't be followed: {}", decision.text(), why);
}

}  // namespace kontor
