// See random_arguments.h.
#include "tests/random_arguments.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "base/error.h"
#include "graph/index/index.h"
#include "tests/run_graph.h"

namespace kontor {

namespace {

int64_t size_of(const Ints& dims) {
  int64_t n = 1;
  for (int64_t d : dims) n *= d;
  return n;
}

Argument number(kontor::Number n) { return {.kind = Argument::Number, .numbers = {n}}; }
Argument number(int64_t n) { return number(kontor::Number::of(n)); }
Argument numbers(const Ints& list) {
  Argument a{.kind = Argument::Numbers};
  for (int64_t n : list) a.numbers.push_back(kontor::Number::of(n));
  return a;
}
Argument tensor(const Ref& x) { return {.kind = Argument::Tensor, .tensors = {x}}; }

/// A Ref parameter that is a size, not a tensor.
bool is_size_name(std::string_view name) { return name == "n" || name == "extent"; }

bool takes_tensor(const Parameter& p) {
  return p.type == "operand" || p.type == "tensors" || (p.type == "tensor" && !is_size_name(p.name));
}

double special_value(uint64_t i) {
  constexpr double list[] = {0.0,   -0.0,   1.0,  -1.0, 0.5,     2.0,        HUGE_VAL, -HUGE_VAL, NAN,
                             1e-45, -1e-40, 3e38, 1e10, 65504.0, 16777217.0, -3.0,     88.7,      -103.0};
  return list[i % std::size(list)];
}

/// parameters(row), parsed once.
const std::vector<Parameter>& parameters_of(const FunctionRow& row) {
  static std::unordered_map<const FunctionRow*, std::vector<Parameter>> known;
  auto [it, fresh] = known.try_emplace(&row);
  if (fresh) it->second = parameters(row);
  return it->second;
}

/// Arguments of one call, parameter by parameter.
class Proposal {
 public:
  Proposal(const FunctionRow& row, Ref x, std::span<const Ref> others, Leaves& leaves, Dice& dice,
           bool smooth)
      : row_(row),
        parameters_(parameters_of(row)),
        x_(std::move(x)),
        others_(others),
        leaves_(leaves),
        dice_(dice),
        smooth_(smooth) {}

  std::vector<Argument> make() {
    choose_slot();
    anchor_ = x_;
    choose_axis();
    groups_ = 1, keys_ = -1;
    std::vector<Argument> out;
    for (size_t i = 0; i < parameters_.size(); i++) {
      out.push_back(argument(i));
      if (out.back().kind == Argument::Tensor && i < slot_) follow(out.back().tensors[0]);
      if (parameters_[i].name == "axes" && parameters_[i].type == "int")
        trailing_ = out[i].kind == Argument::Number ? static_cast<size_t>(out[i].numbers[0].i) : 1;
    }
    return out;
  }

 private:
  const FunctionRow& row_;
  const std::vector<Parameter>& parameters_;
  Ref x_, anchor_;  // the given tensor; the one that shapes follow
  std::span<const Ref> others_;
  Leaves& leaves_;
  Dice& dice_;
  bool smooth_;
  size_t slot_ = SIZE_MAX;  // the parameter that is x
  size_t axis_ = 0, trailing_ = 1;
  int64_t groups_ = 1, part_ = 1, keys_ = -1;
  Ints weight_;
  Ref seen_;            // the indices of a call
  int64_t count_ = -1;  // of tensors beside the first, where a formula has settled it

  void choose_slot() {
    std::vector<size_t> slots;
    for (size_t i = 0; i < parameters_.size(); i++)
      if (takes_tensor(parameters_[i])) slots.push_back(i);
    if (x_ && !slots.empty()) slot_ = dice_.once_in(3) ? dice_.any_of(slots) : slots[0];
  }

  Ints dims() const { return anchor_ ? static_shape(*anchor_) : Ints{}; }
  int64_t at_axis() const { return axis_ < dims().size() ? dims()[axis_] : 1; }
  void choose_axis() {
    size_t rank = anchor_ ? anchor_->rank() : 0;
    axis_ = rank ? dice_.below(rank) : 0;
    part_ = dice_.from_to(std::min<int64_t>(1, at_axis()), std::max<int64_t>(at_axis(), 0));
  }

  /// A tensor made to fit x is what the other arguments go by; where x is put into it, along the same axis.
  void follow(const Ref& tensor) {
    const bool boxed = slot_ < parameters_.size() && parameters_[slot_].name == "value" && axis_ < x_->rank();
    anchor_ = tensor;
    if (boxed) part_ = static_shape(*x_)[axis_];
    else choose_axis();
  }

  Argument argument(size_t i) {
    const Parameter& p = parameters_[i];
    if (i == slot_) return p.type == "tensors" ? tensors() : tensor(x_);
    if (!p.fallback.empty() && dice_.once_in(2) && !(smooth_ && p.type == "dtype")) return {};
    if (p.type == "tensor") return is_size_name(p.name) ? number(size_argument(p.name)) : one_tensor(p.name);
    if (p.type == "tensors") return tensors();
    if (p.type == "operand") return operand(p.name);
    if (p.type == "shape") return numbers(shape());
    if (p.type == "int" || p.type == "int or none") return number(integer(p.name));
    if (p.type == "float") return number(kontor::Number::of(dice_.one_of({0.0, 1.0, -1.5, 0.25, 3.0, 12.5})));
    if (p.type == "bool") return number(kontor::Number::of(dice_.once_in(2)));
    if (p.type == "dtype") return {.kind = Argument::Dtype, .dtype = dtype()};
    if (p.type == "ints") return numbers(integers(p.name));
    if (p.type == "axes") return numbers(axes());
    if (p.type == "text")
      return {.kind = Argument::Text,
              .text = p.name == "formula" ? formula()
                      : p.name == "norm"  ? "l2"
                                          : "m"};
    broken("no random argument for a parameter of type {}", p.type);
  }

  // ---- tensors

  /// A shape that broadcasts with the anchor's.
  Ints beside() {
    Ints out = dims();
    for (int64_t& d : out)
      if (dice_.once_in(4)) d = d == 1 ? leaves_.extent() : 1;
    if (dice_.once_in(5) && !out.empty())
      out.erase(out.begin(), out.begin() + static_cast<ptrdiff_t>(dice_.below(out.size() + 1)));
    else if (dice_.once_in(10) && out.size() < 5) out.insert(out.begin(), leaves_.extent());
    return out;
  }

  static bool broadcasts(const Ints& a, const Ints& b) {
    for (size_t i = 1; i <= std::min(a.size(), b.size()); i++) {
      int64_t x = a[a.size() - i], y = b[b.size() - i];
      if (x != y && x != 1 && y != 1) return false;
    }
    return true;
  }

  DType like_anchor() { return anchor_ && !dice_.once_in(4) ? anchor_->dtype : leaves_.dtype(); }

  Argument operand(std::string_view name) {
    if (name == "begin") return number(dice_.from_to(-at_axis(), std::max<int64_t>(at_axis() - 1, 0)));
    if (name == "index") return number(dice_.from_to(0, std::max<int64_t>(at_axis() - part_, 0)));
    if (dice_.once_in(4)) return number(any_number());
    bool divisor = row_.name == "mod" || row_.name == "floor_div";
    if (!divisor && dice_.once_in(2)) {
      std::vector<Ref> fitting;
      for (const Ref& o : others_)
        if (broadcasts(dims(), static_shape(*o))) fitting.push_back(o);
      if (!fitting.empty()) return tensor(dice_.any_of(fitting));
    }
    return tensor(leaves_.leaf({like_anchor(), beside()}, divisor ? Values::NonZero : Values::Any));
  }

  kontor::Number any_number() {
    if (dice_.once_in(2))
      return kontor::Number::of(dice_.one_of<int64_t>({0, 1, 2, 3, 5, 7, 8, -1, -2, 100}));
    if (dice_.once_in(6)) return kontor::Number::of(dice_.once_in(2));
    return kontor::Number::of(dice_.one_of({0.5, -0.5, 1.0, -0.0, 0.1, 2.5, -3.25}));
  }

  /// What fits a parameter that is a tensor, by its name; the anchor is another parameter of the call.
  Argument one_tensor(std::string_view name) {
    Ints d = dims();
    if (!anchor_) return tensor(leaves_.leaf({leaves_.dtype(), leaves_.dims()}));
    if (row_.name == "attention") return tensor(of_attention(name));
    if (name == "indices" || name == "labels") return tensor(seen_ = indices());
    if (name == "values") return tensor(leaves_.leaf({like_anchor(), values()}));
    if (name == "weight") return tensor(leaves_.leaf({like_anchor(), weight_ = weight()}));
    if (name == "bias") return tensor(leaves_.leaf({like_anchor(), bias()}));
    if (name == "value") return tensor(leaves_.leaf({like_anchor(), box()}));
    if (name == "mean" || name == "variance")
      return tensor(leaves_.leaf({like_anchor(), d.size() > 1 ? Ints{d[1]} : d}));
    if (name == "b") return tensor(leaves_.leaf({like_anchor(), right_of(d)}));
    if (name == "a") return tensor(leaves_.leaf({like_anchor(), left_of(d)}));
    if (slot_ != SIZE_MAX && slot_ < parameters_.size())
      return tensor(leaves_.leaf({like_anchor(), around(parameters_[slot_].name)}));
    return tensor(leaves_.leaf({like_anchor(), beside()}));
  }

  /// What goes with x as queries, keys or values; the heads of keys are those of queries.
  Ref of_attention(std::string_view name) {
    Ints d = x_ ? static_shape(*x_) : Ints{};
    while (d.size() < 2) d.insert(d.begin(), 3);
    const bool is_queries = slot_ == 0, is_values = slot_ == 2;
    if (keys_ < 0) keys_ = is_queries ? leaves_.extent() : d[d.size() - 2];
    const int64_t size = is_values ? 4 : d.back();
    if (name == "mask") return leaves_.leaf({dice_.once_in(2) ? DType::Bool : like_anchor(), {1, keys_}});
    Ints shape(d.begin(), d.end() - 2);
    shape.push_back(name == "q" ? leaves_.extent() : keys_);
    shape.push_back(name == "v" ? leaves_.extent() : size);
    return leaves_.leaf({like_anchor(), shape});
  }

  /// Of as many tensors as will be given, all of the anchor's rank: axes of the first, of others or of their own.
  std::string formula() {
    const size_t rank = dims().size();
    count_ = dice_.from_to(0, 2);
    std::string first, out, letters;
    for (size_t a = 0; a < rank; a++) first += dice_.once_in(8) && a ? first[0] : static_cast<char>('a' + a);
    for (int64_t i = 0; i <= count_; i++) {
      std::string term = first;
      for (char& c : term)
        if (i && dice_.once_in(3)) c = static_cast<char>(c + 8 * i);
      out += (i ? "," : "") + term;
      for (char c : term)
        if (letters.find(c) == std::string::npos && dice_.once_in(2))
          letters.insert(letters.begin() + static_cast<ptrdiff_t>(dice_.below(letters.size() + 1)), c);
    }
    return dice_.once_in(4) ? out : out + "->" + letters;
  }

  /// One for each index, or for each row of what is sorted.
  Ints values() {
    if (seen_) return static_shape(*seen_);
    Ints d = dims();
    if (d.size() > 1) d.back() = leaves_.extent();
    return d.size() > 1 ? d : leaves_.dims();
  }

  Ref indices() {
    Ints d = dims(), shape;
    int64_t bound = std::min(at_axis(), d.empty() ? 1 : d.back());
    const bool own_places = row_.group == "index";
    if (own_places) {
      shape = d, bound = at_axis();
      for (size_t a = 0; a < d.size(); a++)
        shape[a] = a == axis_ ? leaves_.extent() : d[a] - dice_.once_in(4);
      for (int64_t& n : shape) n = std::max<int64_t>(n, 0);
    } else if (dice_.once_in(2) && !d.empty()) shape.assign(d.begin(), d.end() - 1);
    else
      for (uint64_t rank = dice_.below(3); rank > 0; rank--) shape.push_back(leaves_.extent());
    DType dtype = dice_.one_of({DType::I64, DType::I32, DType::U8, DType::I16, DType::U32});
    return leaves_.leaf({dtype, shape}, Values::Indices, bound);
  }

  bool is_transposed() const { return row_.name == "conv_transpose"; }
  int64_t divisor_of(int64_t n) {
    Ints divisors;
    for (int64_t g = 1; g <= n; g++)
      if (n % g == 0) divisors.push_back(g);
    return divisors.empty() || dice_.once_in(2) ? 1 : dice_.any_of(divisors);
  }
  /// Of a convolution over [n, c, ..], of a norm over the last axes, or of one over channels.
  Ints weight() {
    Ints d = dims();
    if (row_.name.starts_with("conv") && d.size() > 2 && d.size() < 6) {
      groups_ = divisor_of(d[1]);
      auto tap = [&](int64_t n) {
        return std::min(dice_.one_of<int64_t>({1, 2, 3, 3, 5}), std::max<int64_t>(n, 1));
      };
      const int64_t outputs = dice_.one_of<int64_t>({1, 1, 2, 3, 5, 8, 16, 17});
      Ints out = is_transposed() ? Ints{d[1], outputs} : Ints{groups_ * outputs, d[1] / groups_};
      for (size_t a = 2; a < d.size(); a++) out.push_back(tap(d[a]));
      return out;
    }
    if (d.size() > 1 && dice_.once_in(2)) return {d[1]};
    return {d.end() - static_cast<ptrdiff_t>(std::min(trailing_, d.size())), d.end()};
  }
  Ints bias() {
    if (weight_.size() > 2) return {is_transposed() ? weight_[1] * groups_ : weight_[0]};
    if (!weight_.empty()) return weight_;
    return weight();
  }
  /// The anchor's shape with a part of the axis, or without the axis.
  Ints box() {
    Ints d = dims();
    if (axis_ < d.size()) d[axis_] = part_;
    if (dice_.once_in(4) && !d.empty()) d.erase(d.begin() + static_cast<ptrdiff_t>(axis_));
    return d;
  }
  Ints right_of(const Ints& d) {
    if (d.empty()) return d;
    if (dice_.once_in(5)) return {d.back()};
    Ints out(d.begin(), d.end() - std::min<ptrdiff_t>(static_cast<ptrdiff_t>(d.size()), 2));
    if (dice_.once_in(2)) out.clear();
    out.insert(out.end(), {d.back(), leaves_.extent()});
    return out;
  }
  Ints left_of(const Ints& d) {
    if (d.empty()) return d;
    int64_t inner = d[d.size() == 1 ? 0 : d.size() - 2];
    if (dice_.once_in(5)) return {inner};
    return {leaves_.extent(), inner};
  }
  /// What the first tensor may be where x is a later one, of that name.
  Ints around(std::string_view name) {
    Ints d = dims();
    if (name == "weight" && d.size() > 2) {
      Ints out{leaves_.extent(), is_transposed() ? d[0] : d[1]};
      for (size_t a = 2; a < d.size(); a++) out.push_back(d[a] + dice_.from_to(0, 9));
      return out;
    }
    if (name == "weight" || name == "bias") {
      if (dice_.once_in(2)) {
        if (!d.empty()) d.insert(d.begin(), leaves_.extent());
        return d;
      }
      Ints out{leaves_.extent()};
      out.insert(out.end(), d.begin(), d.end());
      out.insert(out.end(), {leaves_.extent(), leaves_.extent()});
      return out;
    }
    if (name == "indices" || name == "labels") d.push_back(leaves_.extent());
    if ((name == "value" || name == "values") && d.empty()) return {leaves_.extent()};
    if (name == "value" && axis_ < d.size()) d[axis_] += dice_.from_to(0, 3);
    return d;
  }

  Argument tensors() {
    Argument a{.kind = Argument::Tensors};
    if (!x_) return tensor(leaves_.leaf({leaves_.dtype(), leaves_.dims()}));
    int64_t count = count_ >= 0 ? count_ : dice_.from_to(0, 3), at = dice_.from_to(0, count);
    for (int64_t i = 0; i <= count; i++) {
      Ints d = dims();
      if (i != at && axis_ < d.size() && count_ < 0 && dice_.once_in(2)) d[axis_] = leaves_.extent();
      a.tensors.push_back(i == at || dice_.once_in(8) ? x_ : leaves_.leaf({like_anchor(), d}));
    }
    return a;
  }

  // ---- numbers

  DType dtype() {
    if (smooth_) return dice_.once_in(8) ? dice_.one_of({DType::I32, DType::Bool, DType::I64}) : DType::F64;
    if (x_ && dice_.once_in(2)) {
      std::vector<DType> same;
      for (int d = 1; d <= static_cast<int>(DType::F64); d++)
        if (row(static_cast<DType>(d)).bits == row(x_->dtype).bits) same.push_back(static_cast<DType>(d));
      return dice_.any_of(same);
    }
    return static_cast<DType>(1 + dice_.below(static_cast<uint64_t>(DType::F64)));
  }

  int64_t size_argument(std::string_view name) {
    if (name != "extent" || axis_ + 1 >= dims().size()) return leaves_.extent();
    return dims()[axis_] + dims()[axis_ + 1] + dice_.from_to(-1, 8);
  }

  /// Another shape of the anchor's elements, one that it expands to, or any.
  Ints shape() {
    Ints d = dims();
    if (!anchor_) return leaves_.dims();
    if (dice_.once_in(2)) {
      for (int64_t& n : d)
        if (n == 1 && dice_.once_in(2)) n = leaves_.extent();
      while (d.size() < 5 && dice_.once_in(3)) d.insert(d.begin(), leaves_.extent());
      return d;
    }
    int64_t rest = size_of(d);
    if (rest == 0) return d.size() > 1 ? Ints{0, leaves_.extent()} : Ints{leaves_.extent(), 0};
    Ints out;
    while (rest > 1 && out.size() < 4) {
      Ints divisors;
      for (int64_t n = 2; n <= rest; n++)
        if (rest % n == 0) divisors.push_back(n);
      out.push_back(dice_.any_of(divisors));
      rest /= out.back();
    }
    if (rest > 1) out.push_back(rest);
    while (out.size() < 5 && dice_.once_in(2))
      out.insert(out.begin() + static_cast<ptrdiff_t>(dice_.below(out.size() + 1)), 1);
    return out;
  }

  Ints axes() {
    Ints out;
    int64_t rank = static_cast<int64_t>(anchor_ ? anchor_->rank() : 0);
    for (int64_t i = 0; i < rank; i++)
      if (dice_.once_in(2)) out.push_back(dice_.once_in(3) ? i - rank : i);
    return out;
  }

  int64_t integer(std::string_view name) {
    int64_t rank = static_cast<int64_t>(anchor_ ? anchor_->rank() : 0), axis = static_cast<int64_t>(axis_),
            n = at_axis();
    if (name == "axis") return dice_.once_in(3) ? axis - rank : axis;
    if (name == "a" || name == "b" || name == "from")
      return dice_.from_to(-rank, std::max<int64_t>(rank - 1, 0));
    if (name == "axes") return dice_.from_to(1, std::max<int64_t>(rank, 1));
    if (name == "index") return dice_.from_to(-n, std::max<int64_t>(n - 1, 0));
    if (name == "begin") return dice_.from_to(-n, n);
    if (name == "end") return dice_.from_to(-n, n + 2);
    if (name == "step") return dice_.one_of<int64_t>({1, 2, 3, -1, -2});
    if (name == "groups" && row_.name == "group_norm") return divisor_of(dims().size() > 1 ? dims()[1] : 1);
    if (name == "groups") return groups_;
    if (name == "low") return dice_.from_to(-9, 3);
    if (name == "high") return dice_.from_to(4, 300);
    if (name == "k") return dice_.from_to(0, std::max<int64_t>(n, 0));
    if (name == "shift" || name == "diagonal") return dice_.from_to(-9, 9);
    if (name == "correction") return dice_.from_to(0, 1);
    return dice_.one_of<int64_t>({1, 1, 2, 2, 3, 4, 5, 8});
  }

  Ints integers(std::string_view name) {
    Ints out;
    if (name == "order") {
      for (int64_t i = 0; i < static_cast<int64_t>(anchor_ ? anchor_->rank() : 0); i++)
        out.insert(out.begin() + static_cast<ptrdiff_t>(dice_.below(out.size() + 1)), i);
      return out;
    }
    if (name == "low_high") {
      for (size_t i = 0; i < 2 * dims().size(); i++)
        out.push_back(dice_.one_of<int64_t>({0, 0, 0, 1, 1, 2, 3, 9}));
      return out;
    }
    const size_t count = dice_.once_in(2) ? 1 : std::clamp<size_t>(dims().size(), 3, 5) - 2;
    while (out.size() < count) {
      if (name == "padding") out.push_back(dice_.from_to(0, 2));
      else if (name == "output_padding") out.push_back(dice_.once_in(3));
      else if (name == "stride") out.push_back(dice_.from_to(1, 3));
      else out.push_back(dice_.one_of<int64_t>({1, 1, 2, 2, 3}));
    }
    return out;
  }
};

}  // namespace

bool reads_tensor(const FunctionRow& row) {
  const std::vector<Parameter>& list = parameters_of(row);
  return row.group != "make" && std::any_of(list.begin(), list.end(), takes_tensor);
}

std::vector<Argument> propose_arguments(const FunctionRow& row, const Ref& x, std::span<const Ref> others,
                                        Leaves& leaves, Dice& dice, bool smooth) {
  return Proposal(row, x, others, leaves, dice, smooth).make();
}

// ---- leaves -------------------------------------------------------------------------------------------------------------

int64_t Leaves::extent() {
  if (dice_.once_in(40)) return 0;
  if (dice_.once_in(4)) return 1;
  if (dice_.once_in(2)) return dice_.one_of<int64_t>({2, 2, 3, 3, 4, 5, 6, 7});
  int64_t width = dice_.one_of<int64_t>({4, 8, 8, 16, 16, 32, 64});
  return dice_.once_in(4) ? dice_.one_of<int64_t>({11, 13, 19, 23, 29, 37}) : width + dice_.from_to(-1, 1);
}

Ints Leaves::dims() {
  Ints out;
  for (int64_t rank = dice_.one_of<int64_t>({0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5}); rank > 0; rank--) {
    int64_t d = extent();
    while (size_of(out) * d > cap) d = (d + 1) / 2 == d ? 1 : (d + 1) / 2;
    out.insert(out.begin() + static_cast<ptrdiff_t>(dice_.below(out.size() + 1)), d);
  }
  return out;
}

DType Leaves::dtype() {
  if (smooth_) return dice_.once_in(12) ? dice_.one_of({DType::Bool, DType::I32, DType::U8}) : DType::F64;
  auto any = [&] { return static_cast<DType>(1 + dice_.below(static_cast<uint64_t>(DType::F64))); };
  if (!usual_) usual_ = dice_.once_in(2) ? DType::F32 : any();
  return dice_.once_in(4) ? any() : *usual_;
}

static Value element(Dice& dice, DType dtype, Values values, int64_t bound, Value any) {
  if (values == Values::Indices) {
    int64_t low = kind(dtype) == Kind::Signed && dice.once_in(4) ? -bound : 0;
    return from_int(dtype, bound < 1 ? 0 : dice.from_to(low, bound - 1));
  }
  if (values == Values::NonZero && to_double(dtype, any) == 0) return from_int(dtype, 1);
  if (values == Values::Special && is_float(dtype) && dice.once_in(3))
    return from_double(dtype, special_value(dice.below(64)));
  if (values == Values::Special && is_integer(dtype) && dice.once_in(3))
    return from_int(dtype, static_cast<int64_t>(dice.below(UINT64_MAX)));
  return any;
}

Ref Leaves::leaf(const Form& form, Values values, int64_t bound) {
  const auto& [dtype, dims] = form;
  if (size_of(dims) > 20 * cap) throw Error("the leaf is too large");
  Array a = random_array(dtype, dims, dice_.below(UINT64_MAX));
  if (values == Values::Any && !smooth_ && dice_.once_in(8)) values = Values::Special;
  bool positive = smooth_ && !dice_.once_in(3);
  for (int64_t i = 0; i < a.size(); i++) {
    if (values != Values::Any) a.set(i, element(dice_, dtype, values, bound, a.get(i)));
    if (smooth_ && is_float(dtype)) {
      double unit = static_cast<double>(dice_.below(1u << 20)) / (1u << 20);
      a.set(i, from_double(dtype, positive ? 0.3 + 2 * unit : 4 * unit - 2));
    }
  }
  return leaf_of(std::move(a));
}

Ref Leaves::leaf_of(Array value) {
  std::vector<Ref> shape;
  for (int64_t d : value.shape) shape.push_back(index(d));
  Ref made = make(Op::Buffer, shape, {.ints = {fresh_id(), 0}}, value.dtype);
  arrays_[made.get()] = std::move(value);
  alive_.push_back(made);
  return made;
}

}  // namespace kontor
