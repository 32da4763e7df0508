// The tables of rules on values. What a row says of floats must hold for NaN, infinities and -0, bit for bit.
#include "graph/rules/rules.h"

#include <cmath>

#include "base/env.h"
#include "base/error.h"
#include "base/lasting.h"
#include "graph/index/index.h"

namespace kontor {

using namespace pattern;

namespace {

// ---- functions of rows -------------------------------------------------------------------------------------------

Ref uniform_of(const Node& node, Value value) { return full(*constant_of(node.dtype, value), node.shape); }

Ref fold(const Match& m) {
  const Node& n = *m.root;
  Value values[3];
  for (size_t s = 0; s < n.src.size(); s++) {
    const Node* c = uniform(*n[s]);
    if (!c) return {};
    values[s] = value_of(*c);
  }
  return uniform_of(n, apply(n.op, n.dtype, n[n.op == Op::Where ? 1 : 0]->dtype, values));
}

Ref constant_last(const Match& m) {
  const Node& n = *m.root;
  return uniform(*n[0]) && !uniform(*n[1]) ? make(n.op, {n[1], n[0]}) : Ref();
}

// Bounds that are one number, of an op that cannot fail (a division by zero must still be seen).
Ref decided(const Match& m) {
  const Node& n = *m.root;
  if (is_float(n.dtype) || !n.bounds.exact()) return {};
  return uniform_of(n, from_int(n.dtype, n.bounds.lo));
}

// c and 1/c are exact, so that f/c and f*(1/c) round the same number once.
bool is_power_of_two(const Match& m) {
  int exponent = 0;
  double v = m.number(c), inverse = 1 / v;
  if (std::fabs(std::frexp(v, &exponent)) != 0.5) return false;
  DType d = m.node(c).dtype;
  return to_double(d, from_double(d, inverse)) == inverse && std::isfinite(inverse);
}
Ref multiply_by_inverse(const Match& m) {
  if (!is_power_of_two(m)) return {};
  const Node& n = *m.root;
  return make(Op::Mul, {n[0], uniform_of(n, from_double(n.dtype, 1 / m.number(c)))});
}

Ref merge_shifts(const Match& m) {
  Op op = m.root->op;
  Value a = m.value(c0), b_ = m.value(c1);
  auto width = static_cast<uint64_t>(row(m.root->dtype).bits);
  if (a.bits >= width || b_.bits >= width || a.bits + b_.bits > 127) return {};
  return make(op, {m.ref(i), uniform_of(m.node(c0), {a.bits + b_.bits})});
}

bool not_negative(const Match& m) { return m.node(i).bounds.lo >= 0 && m.node(i).dtype != DType::U64; }

// ---- casts ----------------------------------------------------------------------------------------------------------

int magnitude_bits(DType d) { return d == DType::Bool ? 1 : row(d).bits - (kind(d) == Kind::Signed); }

Ref merge_casts(const Match& m) {
  DType from = m.node(x).dtype, between = m.root->src[0]->dtype, to = m.root->dtype;
  bool integers = !is_float(from) && !is_float(between) && from != DType::Bool && between != DType::Bool;
  // Integers wrap: what the narrower `to` keeps, `between` kept too.
  bool wraps = integers && is_integer(to) && row(to).bits <= row(between).bits;
  if (!wraps && !is_lossless(from, between)) return {};
  // integer -> float -> integer saturates where integer -> integer would wrap.
  if (!is_float(from) && is_float(between) && is_integer(to) && !is_lossless(from, to)) return {};
  return to == from ? m.ref(x) : make(Op::Cast, {m.ref(x)}, {}, to);
}

Ref same_dtype(const Match& m) { return m.root->dtype == m.node(x).dtype ? m.ref(x) : Ref(); }

Ref merge_bitcasts(const Match& m) {
  if (m.root->src[0]->dtype == DType::Bool) return {};  // which keeps one bit
  return m.root->dtype == m.node(x).dtype ? m.ref(x) : make(Op::Bitcast, {m.ref(x)}, {}, m.root->dtype);
}

// ---- tables -----------------------------------------------------------------------------------------------------------

// clang-format off
constexpr Rule float_table[] = {
    {"neg.neg",          -(-x),                        x},
    {"mul.one",          f * 1,                        f},
    {"mul.minus.one",    f * -1,                       -f},
    {"div.one",          div(f, 1),                    f},
    {"div.minus.one",    div(f, -1),                   -f},
    {"div.power",        div(f, c),                    multiply_by_inverse, "f * (1/c), where c is a power of two and 1/c is exact"},
    {"add.minus.zero",   f + -0.0,                     f},
    {"sub.zero",         f - 0.0,                      f},
    {"add.neg",          f + (-g),                     f - g},
    {"sub.neg",          f - (-g),                     f + g},
    {"mul.neg.neg",      (-f) * (-g),                  f * g},
    {"div.neg.neg",      div(-f, -g),                  div(f, g)},
    {"fma.one",          fma(f, 1, g),                 f + g},
    {"fma.one.left",     fma(1, f, g),                 f + g},
    {"fma.minus.zero",   fma(f, g, -0.0),              f * g},
    {"fma.neg.neg",      fma(-f, -g, h),               fma(f, g, h)},
    {"abs.abs",          abs(abs(x)),                  abs(x)},
    {"abs.neg",          abs(-x),                      abs(x),          [](const Match& m) { return kind(m.root->dtype) != Kind::Unsigned; }, "not unsigned"},
    {"floor.floor",      floor(floor(f)),              floor(f)},
    {"floor.ceil",       floor(ceil(f)),               ceil(f)},
    {"ceil.ceil",        ceil(ceil(f)),                ceil(f)},
    {"ceil.floor",       ceil(floor(f)),               floor(f)},
    {"max.same",         max(x, x),                    x},
    {"min.same",         min(x, x),                    x},
    {"max.again",        max(max(x, y), y),            max(x, y)},
    {"max.again.left",   max(max(x, y), x),            max(x, y),       [](const Match& m) { return !is_float(m.root->dtype); }, "not for floats: of +0 and -0 it takes the last"},
    {"min.again",        min(min(x, y), y),            min(x, y)},
    {"min.again.left",   min(min(x, y), x),            min(x, y),       [](const Match& m) { return !is_float(m.root->dtype); }, "not for floats: of +0 and -0 it takes the last"},
    {"lt.same",          x < x,                        0},
    {"lt.neg",           (-f) < (-g),                  g < f},
    {"le.neg",           (-f) <= (-g),                 g <= f},
    {"eq.neg",           (-f) == (-g),                 f == g},
    {"not.eq",           !(x == y),                    x != y},
    {"not.ne",           !(x != y),                    x == y},
    {"where.same",       where(b, x, x),               x},
    {"where.true",       where(1, x, y),               x},
    {"where.false",      where(0, x, y),               y},
    {"where.not",        where(!b, x, y),              where(b, y, x)},
    {"where.then",       where(b, where(b, x, y), z),  where(b, x, z)},
    {"where.else",       where(b, x, where(b, y, z)),  where(b, x, z)},
    {"where.and",        where(b, where(b0, x, y), y), where(b & b0, x, y)},
};

constexpr Rule integer_table[] = {
    {"add.zero",         i + 0,                        i},
    {"add.const.const",  (i + c0) + c1,                i + (c0 + c1)},
    {"add.const.out",    (i + c) + j,                  (i + j) + c,     [](const Match& m) { return !uniform(m.node(j)); }, "j is no constant"},
    {"add.neg.int",      i + (-j),                     i - j},
    {"sub.int.zero",     i - 0,                        i},
    {"sub.same",         i - i,                        0},
    {"sub.const",        i - c,                        i + (-c)},
    {"sub.neg.int",      i - (-j),                     i + j},
    {"sub.add",          (i + j) - j,                  i},
    {"add.sub",          (i - j) + j,                  i},
    {"neg.sub",          -(i - j),                     j - i},
    {"mul.int.zero",     i * 0,                        0},
    {"mul.int.one",      i * 1,                        i},
    {"mul.int.minus",    i * -1,                       -i},
    {"mul.const.const",  (i * c0) * c1,                i * (c0 * c1)},
    {"mul.add.const",    (i + c0) * c1,                i * c1 + c0 * c1},
    {"mul.neg.int",      (-i) * c,                     i * (-c)},
    {"add.same",         i + i,                        i * 2},
    {"add.mul",          i * c + i,                    i * (c + 1)},
    {"add.mul.mul",      i * c0 + i * c1,              i * (c0 + c1)},
    {"idiv.one",         idiv(i, 1),                   i},
    {"mod.one",          i % 1,                        0},
    {"mod.mod",          (i % c) % c,                  i % c},
    {"mod.below",        (i % c),                      i,               [](const Match& m) { const Bounds a = m.node(i).bounds; return m.node(i).dtype != DType::U64 && a.lo >= 0 && m[c] > 0 && a.hi < m[c]; }, "0 <= i < c"},
    {"abs.positive",     abs(i),                       i,               not_negative, "i >= 0"},
    {"max.const.const",  max(max(i, c0), c1),          max(i, max(c0, c1))},
    {"min.const.const",  min(min(i, c0), c1),          min(i, min(c0, c1))},
    {"and.same",         i & i,                        i},
    {"and.zero",         i & 0,                        0},
    {"and.const.const",  (i & c0) & c1,                i & (c0 & c1)},
    {"or.same",          i | i,                        i},
    {"or.zero",          i | 0,                        i},
    {"or.const.const",   (i | c0) | c1,                i | (c0 | c1)},
    {"xor.same",         i ^ i,                        0},
    {"xor.zero",         i ^ 0,                        i},
    {"xor.const.const",  (i ^ c0) ^ c1,                i ^ (c0 ^ c1)},
    {"xor.xor",          (i ^ j) ^ j,                  i},
    {"not.not",          ~(~i),                        i},
    {"shl.zero",         i << 0,                       i},
    {"shr.zero",         i >> 0,                       i},
    {"shl.shl",          (i << c0) << c1,              merge_shifts,    "i << (c0 + c1), where c0 and c1 are below the width"},
    {"shr.shr",          (i >> c0) >> c1,              merge_shifts,    "i >> (c0 + c1), where c0 and c1 are below the width"},
    {"le.same",          i <= i,                       1},
    {"eq.same",          i == i,                       1},
    {"ne.same",          i != i,                       0},
    {"not.lt",           !(i < j),                     j <= i},
    {"not.le",           !(i <= j),                    j < i},
    {"eq.add",           (i + c0) == c1,               i == (c1 - c0)},
    {"ne.add",           (i + c0) != c1,               i != (c1 - c0)},
    {"eq.xor",           (i ^ j) == 0,                 i == j},
};

constexpr Rule bool_table[] = {
    {"bool.and.same",    b & b,                        b},
    {"bool.and.true",    b & 1,                        b},
    {"bool.and.false",   b & 0,                        0},
    {"bool.and.not",     b & !b,                       0},
    {"bool.and.or",      b & (b | b0),                 b},
    {"bool.or.same",     b | b,                        b},
    {"bool.or.true",     b | 1,                        1},
    {"bool.or.false",    b | 0,                        b},
    {"bool.or.not",      b | !b,                       1},
    {"bool.or.and",      b | (b & b0),                 b},
    {"bool.xor.same",    b ^ b,                        0},
    {"bool.xor.false",   b ^ 0,                        b},
    {"bool.xor.true",    b ^ 1,                        !b},
    {"bool.not.not",     !(!b),                        b},
    {"bool.eq.true",     b == 1,                       b},
    {"bool.eq.false",    b == 0,                       !b},
    {"bool.ne.true",     b != 1,                       !b},
    {"bool.ne.false",    b != 0,                       b},
    {"bool.eq.same",     b == b,                       1},
    {"bool.ne.same",     b != b,                       0},
    {"bool.where",       where(b, 1, 0),               b,               [](const Match& m) { return m.root->dtype == DType::Bool; }, "of bools"},
    {"bool.where.not",   where(b, 0, 1),               !b,              [](const Match& m) { return m.root->dtype == DType::Bool; }, "of bools"},
    {"bool.where.and",   where(b, b0, 0),              b & b0},
    {"bool.where.or",    where(b, 1, b0),              b | b0},
};

constexpr Rule cast_table[] = {
    {"cast.same",        cast(x),                      same_dtype,      "x, where it has the dtype already"},
    {"cast.cast",        cast(cast(x)),                merge_casts,     "cast(x), where the inner cast keeps every value, or both cut integers to less"},
    {"cast.bool.ne",     cast(b) != 0,                 b},
    {"cast.bool.eq",     cast(b) == 0,                 !b},
    {"bitcast.same",     bitcast(x),                   same_dtype,      "x, where it has the dtype already"},
    {"bitcast.bitcast",  bitcast(bitcast(x)),          merge_bitcasts,  "bitcast(x)"},
};

// One row an op: what the op table says of it is enough.
#define KONTOR_FOLD(op) {"fold." #op, pattern_node(Op::op), fold, "its value, where all sources are constants"}
#define KONTOR_LAST(op) {"last." #op, pattern_node(Op::op), constant_last, "a constant operand stands last"}
#define KONTOR_DECIDED(op) {"bounds." #op, pattern_node(Op::op), decided, "its value, where the bounds leave one"}
constexpr Rule fold_table[] = {
    KONTOR_FOLD(Neg), KONTOR_FOLD(Not), KONTOR_FOLD(Abs), KONTOR_FOLD(Sqrt), KONTOR_FOLD(Floor), KONTOR_FOLD(Ceil),
    KONTOR_FOLD(Cast), KONTOR_FOLD(Bitcast), KONTOR_FOLD(Add), KONTOR_FOLD(Sub), KONTOR_FOLD(Mul), KONTOR_FOLD(Div),
    KONTOR_FOLD(Max), KONTOR_FOLD(Min), KONTOR_FOLD(And), KONTOR_FOLD(Or), KONTOR_FOLD(Xor), KONTOR_FOLD(Shl),
    KONTOR_FOLD(Shr), KONTOR_FOLD(Lt), KONTOR_FOLD(Le), KONTOR_FOLD(Eq), KONTOR_FOLD(Ne), KONTOR_FOLD(Where),
    KONTOR_FOLD(Fma),
    {"fold.IDiv", idiv(i, c), [](const Match& m) { return m[c] == 0 ? Ref() : fold(m); }, "its value, where both are constants and c is not 0"},
    {"fold.Mod",  i % c,      [](const Match& m) { return m[c] == 0 ? Ref() : fold(m); }, "its value, where both are constants and c is not 0"},
    KONTOR_LAST(Add), KONTOR_LAST(Mul), KONTOR_LAST(And), KONTOR_LAST(Or), KONTOR_LAST(Xor), KONTOR_LAST(Eq),
    KONTOR_LAST(Ne),
    KONTOR_DECIDED(Lt), KONTOR_DECIDED(Le), KONTOR_DECIDED(And), KONTOR_DECIDED(Or), KONTOR_DECIDED(Max),
    KONTOR_DECIDED(Min),
};
#undef KONTOR_FOLD
#undef KONTOR_LAST
#undef KONTOR_DECIDED

// c0, c1 > 0 unless said otherwise; what the algebra does beyond (gcds, bounds of sums, symbolic extents) is in
// graph/index/divide.cpp and graph/index/compare.cpp.
bool divides(const Match& m) { return m[c0] > 0 && m[c1] > 0 && m[c0] % m[c1] == 0; }
bool divided(const Match& m) { return m[c0] > 0 && m[c1] > 0 && m[c1] % m[c0] == 0 && m.node(j).bounds.lo >= 0 && m.node(j).bounds.hi < m[c0]; }
bool positive(const Match& m) { return m[c] > 0; }
bool both_positive(const Match& m) { return m[c0] > 0 && m[c1] > 0; }
constexpr Rule index_table[] = {
    {"index.add.const",   (i + c0) + c1,                     i + (c0 + c1)},
    {"index.add.assoc",   i + (j + k),                       (i + j) + k},
    {"index.mul.const",   (i * c0) * c1,                     i * (c0 * c1)},
    {"index.mul.sum",     (i + j) * k,                       i * k + j * k},
    {"index.add.merge",   i * c0 + i * c1,                   i * (c0 + c1)},
    {"index.sub",         i - j,                             i + j * -1},
    {"index.neg",         -i,                                i * -1},
    {"index.div.drop",    idiv(i * c0 + j, c1),              i * idiv(c0, c1) + idiv(j, c1),       divides, "c1 divides c0"},
    {"index.mod.drop",    (i * c0 + j) % c1,                 j % c1,                               divides, "c1 divides c0"},
    {"index.div.group",   idiv(i * c0 + j, c1),              idiv(i, idiv(c1, c0)),                divided, "c0 divides c1, 0 <= j < c0"},
    {"index.mod.group",   (i * c0 + j) % c1,                 (i % idiv(c1, c0)) * c0 + j,          divided, "c0 divides c1, 0 <= j < c0"},
    {"index.div.div",     idiv(idiv(i, c0), c1),             idiv(i, c0 * c1),                     both_positive, "c0, c1 > 0"},
    {"index.mod.mod",     (i % c0) % c1,                     i % c1,                               divides, "c1 divides c0"},
    {"index.div.mod",     idiv(i % c0, c1),                  idiv(i, c1) % idiv(c0, c1),           divides, "c1 divides c0"},
    {"index.div.neg",     idiv(i, c),                        idiv(-i, -c),                         [](const Match& m) { return m[c] < 0; }, "c < 0"},
    {"index.mod.neg",     i % c,                             -((-i) % (-c)),                       [](const Match& m) { return m[c] < 0; }, "c < 0"},
    {"index.join",        idiv(i, c) * c + i % c,            i,                                    positive, "c > 0"},
    {"index.join.mod",    (idiv(i, c0) % c1) * c0 + i % c0,  i % (c0 * c1),                        both_positive, "c0, c1 > 0"},
    {"index.lt.const",    (i + c0) < c1,                     i < (c1 - c0)},
    {"index.lt.scale",    (i * c0) < c1,                     i < idiv(c1 + (c0 + -1), c0),         [](const Match& m) { return m[c0] > 0; }, "c0 > 0"},
    {"index.lt.group",    (i * c0 + j) < c1,                 i < idiv(c1, c0),                     [](const Match& m) { return divided(m); }, "c0 divides c1, 0 <= j < c0"},
    {"index.lt.div",      idiv(i, c0) < c1,                  i < c0 * c1,                          [](const Match& m) { return m[c0] > 0; }, "c0 > 0"},
    {"index.le",          i <= j,                            i < j + 1},
    {"index.not.lt",      !(i < j),                          j < i + 1},
    {"index.eq.move",     (i + j) == (j + k),                i == k},
    {"index.and.lt",      (i < c0) & (i < c1),               i < min(c0, c1)},
    {"index.min.const",   min(min(i, c0), c1),               min(i, min(c0, c1))},
    {"index.max.const",   max(max(i, c0), c1),               max(i, max(c0, c1))},
    {"index.min.same",    min(i + j, i),                     i,                                    [](const Match& m) { return m.node(j).bounds.lo >= 0; }, "j >= 0"},
    {"index.where.same",  where(b, i, i),                    i},
    {"index.where.not",   where(!b, i, j),                   where(b, j, i)},
};
// clang-format on

}  // namespace

bool is_lossless(DType from, DType to) {
  if (from == to) return true;
  if (to == DType::Bool) return false;
  if (!is_float(from)) {
    const FloatFormat& target = row(to).format;
    if (is_float(to))
      return magnitude_bits(from) <= target.digits() && magnitude_bits(from) <= target.greatest();
    bool sign_fits = kind(from) != Kind::Signed || kind(to) == Kind::Signed;
    return sign_fits && magnitude_bits(from) <= magnitude_bits(to);
  }
  if (!is_float(to)) return false;
  const FloatFormat &given = row(from).format, &wanted = row(to).format;
  if (wanted.specials != Specials::Ieee) return false;  // it has no infinity
  return given.digits() <= wanted.digits() && given.least() >= wanted.least() &&
         given.greatest() <= wanted.greatest();
}

std::span<const Rule> float_rules() { return float_table; }
std::span<const Rule> integer_rules() { return integer_table; }
std::span<const Rule> bool_rules() { return bool_table; }
std::span<const Rule> cast_rules() { return cast_table; }
std::span<const Rule> index_rules() { return index_table; }

std::span<const RuleTable> rule_tables() {
  static const RuleTable tables[] = {
      {"fold", "Constants, for every elementwise op.", fold_table},
      {"float", "What holds of every dtype, floats bit for bit: NaN, infinities and the sign of zero.",
       float_table},
      {"integer", "Arithmetic of integers, which wrap at their width.", integer_table},
      {"bool", "Conditions.", bool_table},
      {"cast", "Conversions: no rounding, wrapping or saturation is ever lost.", cast_table},
      {"movement", "Ops that move elements.", movement_rules()},
      {"index",
       "What the index algebra does of itself to expressions of loop variables, which do not overflow.",
       index_table},
  };
  return tables;
}

const Rule* find_rule(std::string_view name) {
  for (const RuleTable& t : rule_tables())
    for (const Rule& r : t.rules)
      if (r.name == name) return &r;
  return nullptr;
}

static RuleSet canonical_rules() {
  for (const std::string& name : env_list(Env::RuleOff))
    if (!find_rule(name)) fail("KONTOR_RULE_OFF: there is no rule '{}'; `kontor rules` lists them", name);
  std::vector<std::span<const Rule>> tables;
  for (const RuleTable& t : rule_tables())
    if (t.name != "index") tables.push_back(t.rules);
  return RuleSet(tables);
}

std::vector<Ref> canonical(std::span<const Ref> roots, RewriteStatistics* statistics) {
  static const RuleSet& rules = lasting(canonical_rules());
  return rewrite(roots, rules, nullptr, statistics);
}

static std::string escaped(std::string text) {  // a | would end a cell
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  return text;
}

std::string rules_markdown() {
  std::string out =
      "# Rules\n\nMade by `kontor rules` from the tables in graph/rules/rules.cpp and graph/rules/movement.cpp; "
      "every row is fuzzed against evaluation.\n`i j k` stand for integers, `f g h` for floats, `x y z` for any dtype, "
      "`b` for bools, `c` for constants. `KONTOR_RULE_OFF=name,...` leaves rules out.\n";
  for (const RuleTable& t : rule_tables()) {
    out += fmt::format("\n## {}\n\n{}\n\n| rule | from | to | where |\n|---|---|---|---|\n", t.name, t.says);
    for (const Rule& r : t.rules) {
      bool op_alone = r.left.count == 1;
      std::string from = op_alone ? fmt::format("{}(..)", row(r.left.root().op).name) : print(r.left);
      std::string to = r.function ? std::string(r.says) : fmt::format("`{}`", escaped(print(r.right)));
      out += fmt::format("| {} | `{}` | {} | {} |\n", r.name, escaped(from), to, r.function ? "" : r.says);
    }
  }
  return out;
}

}  // namespace kontor
