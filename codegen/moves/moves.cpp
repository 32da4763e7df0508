// The table of moves, and lists of them as text.
#include "codegen/moves/moves.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/error.h"

namespace kontor {

namespace {

std::vector<std::string> loops_of(const Move& m) {
  std::vector<std::string> all = m.through;
  all.insert(all.begin(), m.loop);
  return all;
}

int64_t number_of(const std::string& text) {
  int64_t n = 0;
  const auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (!text.empty() && (wrong != std::errc() || end != text.data() + text.size()))
    fail("'{}' is no number", text);
  return n;
}

struct MoveRow {
  MoveKind kind;
  std::string_view name;
  Ref (*run)(const Ref&, const Move&);
};

const MoveRow move_rows[] = {
    {MoveKind::Split, "split",
     [](const Ref& k, const Move& m) { return split(k, m.loop, m.factor, m.other); }},
    {MoveKind::Reorder, "reorder", [](const Ref& k, const Move& m) { return reorder(k, m.loop, m.through); }},
    {MoveKind::Merge, "merge", [](const Ref& k, const Move& m) { return merge(k, m.loop, m.other); }},
    {MoveKind::Join, "join", [](const Ref& k, const Move& m) { return join(k, m.loop); }},
    {MoveKind::Part, "part", [](const Ref& k, const Move& m) { return part(k, m.loop, m.factor); }},
    {MoveKind::Vectorise, "vectorise",
     [](const Ref& k, const Move& m) { return vectorise(k, m.loop, m.factor); }},
    {MoveKind::Unroll, "unroll", [](const Ref& k, const Move& m) { return unroll(k, m.loop); }},
    {MoveKind::Thread, "thread",
     [](const Ref& k, const Move& m) { return parallel(k, m.loop, LoopKind::Thread); }},
    {MoveKind::Global, "global",
     [](const Ref& k, const Move& m) { return parallel(k, m.loop, LoopKind::Global); }},
    {MoveKind::Local, "local", [](const Ref& k, const Move& m) { return local(k, m.loop); }},
    {MoveKind::Matrix, "matrix", [](const Ref& k, const Move& m) { return matrix(k, loops_of(m)); }},
    {MoveKind::Share, "share",
     [](const Ref& k, const Move& m) { return share(k, m.loop, m.factor, number_of(m.other)); }},
    {MoveKind::Lane, "lane", [](const Ref& k, const Move& m) { return lanes(k, m.loop); }},
    {MoveKind::Pack, "pack", [](const Ref& k, const Move& m) { return pack(k, m.other, m.loop, m.through); }},
    {MoveKind::Prefetch, "prefetch",
     [](const Ref& k, const Move& m) { return prefetch(k, m.loop, m.other); }},
    {MoveKind::Pipeline, "pipeline",
     [](const Ref& k, const Move& m) { return pipeline(k, m.loop, m.factor, m.through); }},
    {MoveKind::Sink, "sink", [](const Ref& k, const Move& m) { return sink(k, m.loop); }},
};

}  // namespace

std::string to_string(std::span<const Move> moves) {
  std::string out;
  for (const Move& m : moves) {
    if (!out.empty()) out += "; ";
    out += fmt::format("{} {}", move_rows[static_cast<int>(m.kind)].name, m.loop);
    if (m.factor != 0) out += fmt::format(" {}", m.factor);
    if (!m.other.empty()) out += " " + m.other;
    for (const std::string& t : m.through) out += " " + t;
  }
  return out;
}

static std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> out;
  std::string word;
  for (char c : text) {
    if (c != ' ' && c != '\n') word += c;
    else if (!word.empty()) out.push_back(std::exchange(word, ""));
  }
  if (!word.empty()) out.push_back(word);
  return out;
}

static Move parse_move(std::string_view text) {
  std::vector<std::string> w = words(text);
  for (const MoveRow& r : move_rows) {
    if (w.empty() || w[0] != r.name || w.size() < 2) continue;
    Move m{.kind = r.kind, .loop = w[1], .factor = 0, .other = {}, .through = {}};
    size_t i = 2;
    if (i < w.size() && (std::isdigit(static_cast<unsigned char>(w[i][0])) || w[i][0] == '-')) {
      const char* end = w[i].data() + w[i].size();
      const auto [read, wrong] = std::from_chars(w[i].data(), end, m.factor);
      if (read != end || wrong != std::errc()) break;
      i++;
    }
    const bool lists =
        r.kind == MoveKind::Reorder || r.kind == MoveKind::Matrix || r.kind == MoveKind::Pipeline;
    if (!lists && i < w.size()) m.other = w[i++];
    m.through.assign(w.begin() + static_cast<ptrdiff_t>(i), w.end());
    return m;
  }
  fail("not a move: '{}'", text);
}

std::vector<Move> parse_moves(std::string_view text) {
  std::vector<Move> out;
  while (!text.empty()) {
    size_t end = std::min(text.find(';'), text.size());
    if (!words(text.substr(0, end)).empty()) out.push_back(parse_move(text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

Ref apply(const Ref& kernel, const Move& move) {
  return move_rows[static_cast<int>(move.kind)].run(kernel, move);
}

Ref apply_moves(const Ref& kernel, std::span<const Move> moves) {
  Ref k = kernel;
  for (const Move& m : moves) k = apply(k, m);
  return k;
}

}  // namespace kontor
