// Text of LLVM instructions, value numbering, and scopes.
#include "codegen/render_llvm/builder.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <numeric>
#include <utility>

namespace kontor::ir {

Builder::Builder(const Natives& natives) : natives_(natives) { open("entry"); }

std::string Builder::new_name(char kind) {
  std::string name(1, kind);
  return name += std::to_string(names_++);
}

void Builder::put(int64_t n) {
  char digits[24];
  text_.append(digits, std::to_chars(digits, digits + sizeof digits, n).ptr);
}

void Builder::put(Type t) {
  if (!t.lanes) return put(row(t.of).text);
  put("<");
  put(static_cast<int64_t>(t.lanes));
  put(" x ");
  put(row(t.of).text);
  put(">");
}

void Builder::put(Val v) {
  const Info& info = vals_[static_cast<size_t>(v.id)];
  need_ = std::max(need_, info.level);
  text_.append(info.text);
}

void Builder::put(Typed t) {
  put(type(t.value));
  put(" ");
  put(t.value);
}

bool Builder::constant(Val v, int64_t& bits) const {
  const Info* info = &vals_[static_cast<size_t>(v.id)];
  if (info->scalar >= 0) info = &vals_[static_cast<size_t>(info->scalar)];
  bits = info->bits;
  return info->constant && !info->type.lanes;
}

bool Builder::is_int(Val v, int64_t value) const {
  int64_t bits = 0;
  Scalar of = type(v).of;
  return of != Scalar::Float && of != Scalar::Double && constant(v, bits) && bits == value;
}

Val Builder::add_constant(Type t, std::string text, int64_t bits, int scalar) {
  key_ = text;
  key_ += static_cast<char>('A' + static_cast<int>(t.of));
  key_ += static_cast<char>('A' + t.lanes);
  auto [it, made] = constants_.try_emplace(key_);
  if (!made) return it->second;
  vals_.push_back({t, 0, true, bits, scalar, std::move(text)});
  return it->second = Val{static_cast<int>(vals_.size()) - 1};
}

Val Builder::int_const(Scalar of, int64_t value) {
  if (of == Scalar::I1) return add_constant({of, 0}, value ? "true" : "false", value != 0);
  return add_constant({of, 0}, std::to_string(value), value);
}

static std::string hex(uint64_t bits) {
  std::string text = "0x0000000000000000";
  for (size_t i = text.size(); bits; bits >>= 4) text[--i] = "0123456789ABCDEF"[bits & 15];
  return text;
}

Val Builder::float_const(Scalar of, double value) {
  // Both float and double literals are written as the bits of a double.
  uint64_t bits = std::bit_cast<uint64_t>(value);
  if (value != value) bits = 0x7FF8000000000000ull;
  return add_constant({of, 0}, hex(bits), static_cast<int64_t>(bits));
}

Val Builder::lane_numbers(Scalar of, int lanes, int64_t step) {
  std::string text = "<";
  for (int i = 0; i < lanes; i++) {
    text.append(i ? ", " : "").append(row(of).text).append(" ");
    text += std::to_string(i * step);
  }
  return add_constant({of, lanes}, text + ">", 0);
}

Val Builder::shuffle_at(int level, Val x, Val y, const std::vector<int>& order) {
  const Type from = type(x), to{from.of, static_cast<int>(order.size())};
  std::string numbers = "<";
  for (size_t i = 0; i < order.size(); i++)
    numbers.append(i ? ", i32 " : "i32 ").append(std::to_string(order[i]));
  numbers += ">";
  const Type places{Scalar::I32, to.lanes};
  if (y)
    return emit_at(level, {}, to, "shufflevector ", typed(x), ", ", typed(y), ", ", places, " ", numbers);
  return emit_at(level, {}, to, "shufflevector ", typed(x), ", ", from, " poison, ", places, " ", numbers);
}

Val Builder::joined(Val low, Val high) {
  std::vector<int> order(2 * static_cast<size_t>(lanes(low)));
  std::iota(order.begin(), order.end(), 0);
  return shuffle(low, high, order);
}

Val Builder::spread(Val v, int lanes) {
  std::vector<int> order;
  for (int i = 0; i < lanes; i++) order.push_back(i / (lanes / type(v).lanes));
  return shuffle_at(0, v, {}, order);
}

Val Builder::splat(Val v, int lanes) {
  Type from = type(v);
  if (from.lanes && from.lanes < lanes) return spread(v, lanes);
  if (!lanes || from.lanes) return v;
  Type to{from.of, lanes};
  const Info info = vals_[static_cast<size_t>(v.id)];
  if (info.constant) {
    std::string text = "splat (";
    text.append(row(from.of).text).append(" ").append(info.text).append(")");
    return add_constant(to, std::move(text), info.bits, v.id);
  }
  // A splat stands where its scalar stands.
  Val one = emit_at(0, {}, to, "insertelement ", to, " poison, ", typed(v), ", i64 0");
  Val all = emit_at(0, {}, to, "shufflevector ", typed(one), ", ", to, " poison, ", Type{Scalar::I32, lanes},
                    " zeroinitializer");
  vals_[static_cast<size_t>(all.id)].scalar = v.id;
  return all;
}

Val Builder::define(Type t, int at) {
  vals_.push_back({t, at, false, 0, -1, "%" + new_name('v')});
  return Val{static_cast<int>(vals_.size()) - 1};
}

Val Builder::number(Type t, std::string_view salt) {
  key_.assign(text_).append(salt);
  Numbered& known = numbered_[key_];
  // A load (with salt) is taken anew inside a loop that writes what it reads; all else may come from further out.
  bool near = salt.empty() || known.level >= need_;
  if (known.value && near && known.level <= depth() &&
      scopes_[static_cast<size_t>(known.level)].serial == known.serial)
    return known.value;
  Scope& scope = scopes_[static_cast<size_t>(need_)];
  Val v = define(t, need_);
  scope.text.append("  ").append(vals_.back().text).append(" = ").append(text_).append("\n");
  known = {v, need_, scope.serial};
  return v;
}

std::string_view Builder::declare(const std::string& name, std::string_view result,
                                  std::string_view parameters) {
  auto [it, made] = declared_.insert(name);
  if (made)
    declarations_.append("declare ")
        .append(result)
        .append(" @")
        .append(name)
        .append("(")
        .append(parameters)
        .append(")\n");
  return *it;
}

static std::string text_of(Type t) {
  if (!t.lanes) return std::string(row(t.of).text);
  return "<" + std::to_string(t.lanes) + " x " + std::string(row(t.of).text) + ">";
}

Val Builder::opaque(Val v) {
  if (int64_t bits = 0; !constant(v, bits)) return v;
  return emit(type(v), "call ", type(v), " asm \"\", \"=r,0\"(", typed(v), ")");
}

Val Builder::call(std::string_view intrinsic, Type named, Type result, std::initializer_list<Val> arguments) {
  std::string name = "llvm.";
  name.append(intrinsic).append(".");
  if (named.lanes) name.append("v").append(std::to_string(named.lanes));
  name.append(row(named.of).suffix);
  std::string types;
  for (Val a : arguments) types.append(types.empty() ? "" : ", ").append(text_of(type(a)));
  declare(name, text_of(result), types);
  text_.clear();
  need_ = floor_;
  put("call ");
  put(result);
  put(" @");
  put(name);
  put("(");
  bool first = true;
  for (Val a : arguments) {
    if (!std::exchange(first, false)) put(", ");
    put(typed(a));
  }
  put(")");
  return number(result, {});
}

void Builder::open(std::string block) {
  Scope scope;
  scope.block = std::move(block);
  scope.serial = ++serials_;
  scope.outer_floor = floor_;
  scope.outer_safe = safe_;
  scopes_.push_back(std::move(scope));
}

Val Builder::widened(Val half) {
  const Type type = {Scalar::Float, lanes(half)};
  const Val open = emit(type, "fpext ", typed(half), " to ", type);
  const Val v = call("arithmetic.fence", type, type, {open});
  vals_[static_cast<size_t>(v.id)].half = half.id;
  return v;
}

Val Builder::narrowed(Val v) {
  if (const int half = vals_[static_cast<size_t>(v.id)].half; half >= 0) return {half};
  const Type type = {Scalar::Half, lanes(v)};
  return emit(type, "fptrunc ", typed(v), " to ", type);
}

Val Builder::scaled(Val v, int64_t factor) {
  const auto at = static_cast<size_t>(level(v));
  if (factor == 1) return v;
  if (at >= scopes_.size() || !(scopes_[at].counter == v))
    return emit(type(v), "mul ", type(v), " ", v, ", ", factor);
  for (const Product& p : scopes_[at].products)
    if (p.factor == factor) return p.value;
  const Val product = define(type(v), static_cast<int>(at));
  scopes_[at].products.push_back({factor, product});
  return product;
}

void Builder::open_loop(Val begin, Val end) {
  std::string head = new_name('l');
  for (Scope& s : scopes_) s.has_loops = true;
  open(head);
  Scope& scope = scopes_.back();
  scope.head = std::move(head);
  scope.begin = begin;
  scope.end = end;
  scope.counter = define({Scalar::I64, 0}, depth());
}

/// What stands at the loop's head: its counter and the products of it. `before` is what comes before the loop, `steps` what
/// comes at its end.
std::string Builder::head_of(const Scope& loop, Val next, std::string& before, std::string& steps) {
  const auto phi = [&](Val v, const std::string& begin, Val then) {
    return "  " + name(v) + " = phi i64 [ " + begin + ", %" + scopes_.back().block + " ], [ " + name(then) +
           ", %" + loop.block + " ]\n";
  };
  std::string phis = phi(loop.counter, name(loop.begin), next), products;
  for (const Product& p : loop.products) {
    const std::string factor = std::to_string(p.factor);
    if (loop.has_loops || p.factor == 2) {  // an address has 8 times an index for nothing
      products += "  " + name(p.value) + " = mul i64 " + name(loop.counter) + ", " + factor + "\n";
      continue;
    }
    const Val begin = define({Scalar::I64, 0}, depth()), then = define({Scalar::I64, 0}, depth());
    before += "  " + name(begin) + " = mul i64 " + name(loop.begin) + ", " + factor + "\n";
    phis += phi(p.value, name(begin), then);
    steps += "  " + name(then) + " = add i64 " + name(p.value) + ", " + factor + "\n";
  }
  return phis + products;
}

void Builder::close_loop() {
  Val next = define({Scalar::I64, 0}, depth()), more = define({Scalar::I1, 0}, depth());
  std::string after = new_name('x');
  Scope scope = std::move(scopes_.back());
  scopes_.pop_back();
  Scope& outer = scopes_.back();
  std::string& t = outer.text;
  std::string steps;
  const std::string head = head_of(scope, next, t, steps);
  t.append("  br label %").append(scope.head).append("\n").append(scope.head).append(":\n");
  t.append(head).append(scope.text).append(steps);
  t.append("  ").append(name(next)).append(" = add i64 ").append(name(scope.counter)).append(", 1\n");
  t.append("  ")
      .append(name(more))
      .append(" = icmp slt i64 ")
      .append(name(next))
      .append(", ")
      .append(name(scope.end));
  t.append("\n  br i1 ")
      .append(name(more))
      .append(", label %")
      .append(scope.head)
      .append(", label %")
      .append(after);
  t.append("\n").append(after).append(":\n");
  outer.block = std::move(after);
}

void Builder::open_branch(Val condition, bool pins) {
  std::string then = new_name('t');
  open(then);
  Scope& scope = scopes_.back();
  scope.head = std::move(then);
  scope.join = new_name('j');
  scope.condition = condition;
  safe_ = depth();
  if (pins) floor_ = depth();
}

void Builder::open_else() {
  Scope& scope = scopes_.back();
  // What the first branch has made is kept as text; the numbering starts anew.
  std::string other = new_name('e');
  scope.text.append("  br label %").append(scope.join).append("\n").append(other).append(":\n");
  scope.block = other;
  scope.head.append(" ").append(other);
  scope.serial = ++serials_;
}

void Builder::close_branch() {
  Scope scope = std::move(scopes_.back());
  scopes_.pop_back();
  floor_ = scope.outer_floor;
  safe_ = scope.outer_safe;
  Scope& outer = scopes_.back();
  size_t space = scope.head.find(' ');
  std::string then = scope.head.substr(0, space);
  std::string other = space == std::string::npos ? scope.join : scope.head.substr(space + 1);
  std::string& t = outer.text;
  t.append("  br i1 ")
      .append(vals_[static_cast<size_t>(scope.condition.id)].text)
      .append(", label %")
      .append(then);
  t.append(", label %").append(other).append("\n").append(then).append(":\n").append(scope.text);
  t.append("  br label %").append(scope.join).append("\n").append(scope.join).append(":\n");
  outer.block = std::move(scope.join);
}

Val Builder::alloca_array(Type element, int64_t count) {
  Val v = define({Scalar::Ptr, 0}, 0);
  allocas_.append("  ")
      .append(vals_.back().text)
      .append(" = alloca [")
      .append(std::to_string(count))
      .append(" x ");
  allocas_.append(text_of(element)).append("], align 64\n");
  return v;
}

std::string Builder::finish(std::string_view entry) {
  std::string out = "@zeros = internal constant [512 x i8] zeroinitializer, align 64\n";
  out.append("define void @").append(entry).append("(ptr noalias readonly %args) nounwind {\nentry:\n");
  out.append(allocas_)
      .append(scopes_.front().text)
      .append(fenced_ ? "  fence seq_cst\n" : "")
      .append("  ret void\n}\n")
      .append(declarations_)
      .append(fenced_ ? "!0 = !{}\n!1 = !{i32 1}\n" : "!0 = !{}\n");
  return out;
}

}  // namespace kontor::ir
