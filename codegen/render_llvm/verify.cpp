// See verify_llvm.h. Reads the text line by line: instructions are known by their result, loops and branches by the labels
// that the builder gives them (l: loop, x: after it, t: then, e: else, j: after both).
#include "codegen/render_llvm/verify.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <random>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/lasting.h"

namespace kontor {

namespace {

using Word = std::string_view;
using Known = std::optional<int64_t>;

/// Takes words off the front of an instruction.
class Words {
 public:
  explicit Words(Word text) : rest_(text) {}

  Word next() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == ',')) rest_.remove_prefix(1);
    // A vector type is one word.
    size_t end = !rest_.empty() && rest_.front() == '<' ? rest_.find('>') + 1 : rest_.find_first_of(" ,");
    Word word = rest_.substr(0, end);
    rest_.remove_prefix(word.size());
    return word;
  }
  bool take(Word word) {
    Words after = *this;
    if (after.next() != word) return false;
    *this = after;
    return true;
  }

 private:
  Word rest_;
};

int64_t number_of(Word digits) {
  int64_t n = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), n);
  return n;
}

int bits_of(Word scalar) {
  if (scalar == "half") return 16;
  if (scalar == "float") return 32;
  if (scalar == "double" || scalar == "ptr") return 64;
  return !scalar.empty() && scalar.front() == 'i' ? static_cast<int>(number_of(scalar.substr(1))) : 0;
}

/// Bytes of "float", "<16 x float>" or "[20 x float]"; 0 if it is another type.
int64_t bytes_of(Word type) {
  const size_t by = type.find(" x ");
  if (by == Word::npos) return (bits_of(type) + 7) / 8;
  return number_of(type.substr(1)) * ((bits_of(type.substr(by + 3, type.size() - by - 4)) + 7) / 8);
}

int64_t narrowed(uint64_t value, int bits) {
  const int unused = 64 - bits;
  return static_cast<int64_t>(value << unused) >> unused;
}
uint64_t zero_extended(int64_t value, int bits) {
  return bits == 64 ? static_cast<uint64_t>(value)
                    : static_cast<uint64_t>(value) & ((uint64_t{1} << bits) - 1);
}

/// The integer operations of the text; a and b as signed numbers, x and y as they are without a sign.
Known computed(Word op, int64_t a, int64_t b, int bits) {
  const uint64_t x = zero_extended(a, bits), y = zero_extended(b, bits);
  if (op == "add") return narrowed(x + y, bits);
  if (op == "sub") return narrowed(x - y, bits);
  if (op == "mul") return narrowed(x * y, bits);
  if (op == "and") return narrowed(x & y, bits);
  if (op == "or") return narrowed(x | y, bits);
  if (op == "xor") return narrowed(x ^ y, bits);
  const bool shifts = op == "shl" || op == "lshr" || op == "ashr";
  if (shifts && y >= static_cast<uint64_t>(bits)) return {};
  if (op == "shl") return narrowed(x << y, bits);
  if (op == "lshr") return narrowed(x >> y, bits);
  if (op == "ashr") return a >> y;
  if (b == 0 || (a == INT64_MIN && b == -1)) return {};
  if (op == "sdiv") return a / b;
  if (op == "srem") return a % b;
  if (op == "udiv") return narrowed(x / y, bits);
  if (op == "urem") return narrowed(x % y, bits);
  return {};
}

Known compared(Word how, int64_t a, int64_t b, int bits) {
  const uint64_t x = zero_extended(a, bits), y = zero_extended(b, bits);
  const std::pair<Word, bool> rows[] = {{"eq", a == b}, {"ne", a != b},  {"slt", a < b}, {"sle", a <= b},
                                        {"sgt", a > b}, {"sge", a >= b}, {"ult", x < y}, {"ule", x <= y},
                                        {"ugt", x > y}, {"uge", x >= y}};
  for (const auto& [name, holds] : rows)
    if (name == how) return holds;
  return {};
}

struct Scope {
  bool loop;
  Word value;  // a loop's counter, a branch's condition
  bool holds = true;
};

struct Access {
  Word line, type, pointer;
};

/// Accesses between two labels.
struct Block {
  std::vector<Scope> around;
  std::vector<Access> accesses = {};
};

class Text {
 public:
  Text(Word text, const std::vector<LlvmRegion>& regions, const std::vector<LlvmFact>& facts) {
    for (const LlvmFact& f : facts) facts_.emplace(f.value, f.number);
    for (const LlvmRegion& r : regions) {
      LlvmRegion& known = regions_.try_emplace(r.value, r).first->second;
      if (r.bytes > known.bytes) known = r;
    }
    while (!text.empty()) {
      const size_t end = std::min(text.find('\n'), text.size());
      read(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
  }

  std::vector<std::string> mistakes() {
    std::vector<std::string> out;
    for (Block& b : blocks_) judge(b, out);
    return out;
  }

 private:
  struct Loop {
    Word begin, end;
  };
  std::unordered_map<Word, Word> defined_;     // by result
  std::unordered_map<Word, Loop> loops_;       // by counter
  std::unordered_map<Word, Word> goes_along_;  // the counter of the loop in which another phi is
  std::unordered_map<Word, LlvmRegion> regions_;
  std::unordered_map<Word, int64_t> facts_;
  std::vector<Block> blocks_;
  std::vector<Scope> open_;
  bool new_block_ = true;
  Word condition_;                             // of the last conditional jump
  std::unordered_map<Word, Known> evaluated_;  // at the point that is tried
  static constexpr int deepest = 200;          // of instructions on instructions; what is deeper is data
  int depth_ = 0;

  // ---- reading

  void read(Word line) {
    if (line.empty() || line.front() != ' ') return label(line);
    line.remove_prefix(2);
    if (line.starts_with("br i1 ")) return jump(line);
    Word result;
    if (line.front() == '%') {
      const size_t equals = line.find(" = ");
      result = line.substr(0, equals);
      line.remove_prefix(equals + 3);
      defined_[result] = line;
    }
    if (line.starts_with("phi ") && !open_.empty() && !open_.back().value.empty()) {
      goes_along_[result] = open_.back().value;
    } else if (line.starts_with("phi ") && !open_.empty()) {
      open_.back().value = result;
      const size_t from = line.find("[ ") + 2;
      loops_[result] = {line.substr(from, line.find(',') - from), {}};
    }
    if (line.starts_with("alloca ")) {
      const size_t from = line.find('['), end = line.find(']') + 1;
      LlvmRegion& r =
          regions_.try_emplace(result, LlvmRegion{std::string(result), "a local place", 0}).first->second;
      r.bytes = bytes_of(line.substr(from, end - from));
    }
    if (line.starts_with("load ") || line.starts_with("store ")) access(line);
  }

  void label(Word line) {
    if (line.size() < 3 || line.back() != ':' || line.front() == '@') return;
    new_block_ = true;
    const char kind = line.front();
    if (kind == 'l') open_.push_back({true, {}});
    if (kind == 't') open_.push_back({false, condition_});
    if (open_.empty()) return;
    if (kind == 'x' || kind == 'j') open_.pop_back();
    if (line != "entry:" && kind == 'e') open_.back().holds = false;
  }

  // The jump at a loop's end says how far its counter goes: its condition is "icmp slt i64 next, end".
  void jump(Word line) {
    Words words(line);
    words.next(), words.next();
    condition_ = words.next();
    words.next();
    if (!words.next().starts_with("%l") || open_.empty() || !open_.back().loop) return;
    const Word test = defined_[condition_];
    loops_[open_.back().value].end = test.substr(test.rfind(' ') + 1);
  }

  void access(Word line) {
    const size_t at = line.rfind(", ptr ");
    if (at == Word::npos) return;
    Words words(line), pointer(line.substr(at + 6));
    words.next();
    if (std::exchange(new_block_, false)) blocks_.push_back({open_});
    blocks_.back().accesses.push_back({line, words.next(), pointer.next()});
  }

  // ---- evaluating

  Known value(Word name) {
    if (name == "true" || name == "false") return name == "true" ? -1 : 0;
    if (name.empty() || name.front() != '%') return number_of(name);
    if (auto it = evaluated_.find(name); it != evaluated_.end()) return it->second;
    if (auto it = facts_.find(name); it != facts_.end()) return it->second;
    auto it = defined_.find(name);
    if (it == defined_.end() || depth_ == deepest) return {};
    depth_++;
    const auto along = goes_along_.find(name);
    const Known known =
        along == goes_along_.end() ? instruction(it->second) : stepped(name, it->second, along->second);
    depth_--;
    return evaluated_[name] = known;
  }

  // %p = phi i64 [ begin, %l ], [ %next, %l ] with %next = add i64 %p, step: begin + iterations * step.
  Known stepped(Word name, Word phi, Word counter) {
    const size_t from = phi.find("[ ") + 2, other = phi.rfind("[ ") + 2;
    const Word begin = phi.substr(from, phi.find(',') - from),
               next = phi.substr(other, phi.find(',', other) - other);
    Words words(defined_[next]);
    if (!words.take("add") || !words.take("i64") || !words.take(name)) return {};
    const Known first = value(begin), step = value(words.next()), at = value(counter),
                start = value(loops_.at(counter).begin);
    if (!first || !step || !at || !start) return {};
    return narrowed(
        static_cast<uint64_t>(*first) + static_cast<uint64_t>(*at - *start) * static_cast<uint64_t>(*step),
        64);
  }

  Known instruction(Word text) {
    Words words(text);
    const Word op = words.next();
    if (op == "call") return call(words);
    if (op == "select") return selected(words);
    if (op == "zext" || op == "sext" || op == "trunc") {
      const int from = bits_of(words.next());
      if (from == 0) return {};
      const Known x = value(words.next());
      if (!x) return {};
      words.next();
      return narrowed(op == "zext" ? zero_extended(*x, from) : static_cast<uint64_t>(*x),
                      bits_of(words.next()));
    }
    const Word how = op == "icmp" ? words.next() : Word();
    while (words.take("nuw") || words.take("nsw") || words.take("exact") || words.take("disjoint")) {}
    const Word type = words.next();
    if (type.empty() || type.front() != 'i') return {};
    const Known a = value(words.next()), b = a ? value(words.next()) : Known();
    if (!b) return {};
    if (op != "icmp") return computed(op, *a, *b, bits_of(type));
    const Known holds = compared(how, *a, *b, bits_of(type));
    return holds ? Known(-*holds) : Known();
  }

  Known selected(Words words) {
    if (words.next() != "i1") return {};
    const Known c = value(words.next());
    const Word type = words.next(), yes = words.next();
    words.next();
    if (!c || type.front() != 'i') return {};
    return value(*c ? yes : words.next());
  }

  // call i64 @llvm.smax.i64(i64 %a, i64 %b)
  Known call(Words words) {
    words.next();
    Word function = words.next();
    const size_t open = function.find('(');
    const bool low = function.starts_with("@llvm.smin.i"), high = function.starts_with("@llvm.smax.i");
    if (open == Word::npos || (!low && !high)) return {};
    const Known a = value(words.next());
    words.next();
    Word last = words.next();
    last.remove_suffix(1);
    const Known b = value(last);
    if (!a || !b) return {};
    return low ? std::min(*a, *b) : std::max(*a, *b);
  }

  struct Address {
    const LlvmRegion* region;
    int64_t offset;
  };

  std::optional<Address> address(Word pointer) {
    static const LlvmRegion& zeros = lasting(LlvmRegion{"@zeros", "zeros", 512});
    if (pointer == "@zeros") return Address{&zeros, 0};
    if (auto it = regions_.find(pointer); it != regions_.end()) return Address{&it->second, 0};
    auto it = defined_.find(pointer);
    if (it == defined_.end()) return {};
    Words words(it->second);
    const Word op = words.next(), type = words.next();
    if (op == "select") {
      const Known c = value(words.next());
      words.next();
      const Word yes = words.next();
      words.next();
      return c ? address(*c ? yes : words.next()) : std::optional<Address>();
    }
    if (op != "getelementptr") return {};
    words.next();
    std::optional<Address> base = address(words.next());
    words.next();
    const Known index = base ? value(words.next()) : Known();
    if (!index) return {};
    base->offset += *index * bytes_of(type);
    return base;
  }

  // ---- trying

  /// Whether the block runs at the point, which is chosen here: the loops' first or last iterations, or any.
  bool reached(const Block& b, std::mt19937& random, int corner) {
    evaluated_.clear();
    for (const Scope& s : b.around) {
      if (!s.loop) {
        const Known c = value(s.value);
        if (!c || (*c != 0) != s.holds) return false;
        continue;
      }
      const Loop& loop = loops_.at(s.value);
      const Known begin = value(loop.begin), end = value(loop.end);
      if (!begin || !end) return false;
      const int64_t count = std::max<int64_t>(1, *end - *begin);
      const int64_t at = corner == 0   ? 0
                         : corner == 1 ? count - 1
                                       : static_cast<int64_t>(random() % static_cast<uint64_t>(count));
      evaluated_[s.value] = *begin + at;
    }
    return true;
  }

  // An access that is found wrong is not tried again.
  void judge(Block& b, std::vector<std::string>& out) {
    constexpr int points = 4;
    constexpr size_t most = 20;
    std::mt19937 random(1);
    for (int corner = 0; corner < (b.around.empty() ? 1 : points); corner++) {
      if (!reached(b, random, corner)) continue;
      std::erase_if(b.accesses, [&](const Access& a) {
        std::string m = mistake(a);
        if (m.empty()) return false;
        if (out.size() < most) out.push_back(std::move(m));
        return true;
      });
    }
  }

  std::string mistake(const Access& a) {
    const std::optional<Address> where = address(a.pointer);
    const int64_t size = bytes_of(a.type);
    if (!where || (where->offset >= 0 && where->offset + size <= where->region->bytes)) return "";
    return fmt::format("`{}` takes bytes {} to {} of {}, which has {}", a.line, where->offset,
                       where->offset + size - 1, where->region->place, where->region->bytes);
  }
};

}  // namespace

std::vector<std::string> verify_llvm(std::string_view text, const std::vector<LlvmRegion>& regions,
                                     const std::vector<LlvmFact>& facts) {
  return Text(text, regions, facts).mistakes();
}

}  // namespace kontor
