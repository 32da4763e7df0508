// Builds the text of one LLVM function: values with types, one instruction of each text (value numbering), and scopes,
// so that an instruction lands in the outermost loop that knows its operands.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "codegen/target.h"

namespace kontor::ir {

enum class Scalar : uint8_t { I1, I8, I16, I32, I64, Half, BFloat, Float, Double, Ptr, Void };

struct ScalarRow {
  std::string_view text, suffix;  // in types; in names of intrinsics
  int bits;
};
inline constexpr ScalarRow scalar_rows[] = {
    {"i1", "i1", 1},       {"i8", "i8", 8},     {"i16", "i16", 16},     {"i32", "i32", 32},
    {"i64", "i64", 64},    {"half", "f16", 16}, {"bfloat", "bf16", 16}, {"float", "f32", 32},
    {"double", "f64", 64}, {"ptr", "p0", 64},   {"void", "", 0},
};
inline constexpr const ScalarRow& row(Scalar s) { return scalar_rows[static_cast<int>(s)]; }

struct Type {
  Scalar of = Scalar::Void;
  int lanes = 0;  ///< 0: not a vector
  friend bool operator==(Type, Type) = default;
};

/// An operand: a constant or the result of an instruction.
struct Val {
  int id = -1;
  explicit operator bool() const { return id >= 0; }
  friend bool operator==(Val, Val) = default;
};

/// In an instruction's text: the operand with its type before it.
struct Typed {
  Val value;
};
inline Typed typed(Val v) { return {v}; }

class Builder {
 public:
  explicit Builder(const Natives& natives);

  /// What the target has of what others have not.
  const Natives& natives() const { return natives_; }

  // What is known of a value.
  Type type(Val v) const { return vals_[static_cast<size_t>(v.id)].type; }
  int lanes(Val v) const { return type(v).lanes; }
  int level(Val v) const { return vals_[static_cast<size_t>(v.id)].level; }
  const std::string& text(Val v) const { return vals_[static_cast<size_t>(v.id)].text; }
  /// The scalar constant that v is, or of which v is a splat; false if it is none.
  bool constant(Val v, int64_t& bits) const;
  bool is_int(Val v, int64_t value) const;

  // Constants.
  Val int_const(Scalar of, int64_t value);
  Val float_const(Scalar of, double value);
  Val i64(int64_t value) { return int_const(Scalar::I64, value); }
  Val boolean(bool value) { return int_const(Scalar::I1, value); }
  /// The vector constant <0*step, 1*step, ...>.
  Val lane_numbers(Scalar of, int lanes, int64_t step);
  /// v in every lane (v itself if lanes is 0 or v has as many). A vector of fewer lanes holds one value for each group of
  /// lanes side by side.
  Val splat(Val v, int lanes);

  /// Lanes of x, and behind these of y (none: nothing), in the order of their numbers.
  Val shuffle(Val x, Val y, const std::vector<int>& order) { return shuffle_at(floor_, x, y, order); }
  /// All lanes of two vectors of one width.
  Val joined(Val low, Val high);

  /// A scalar as a value of which LLVM does not know that it is a constant; what is none comes back as it is.
  Val opaque(Val v);
  /// A half as the float that arithmetic runs on. Fenced, or LLVM would take the arithmetic back to halves, which no
  /// processor here computes with: it then calls fmaxf, or goes lane by lane.
  Val widened(Val half);
  /// A float rounded to a half; of one that widened() gave, that half.
  Val narrowed(Val v);

  /// Remembers the code of a narrow float, of which v is the float; what was remembered, else nothing. What is stored as it was
  /// rounded is not encoded a second time.
  void note_code(Val v, Val code) { vals_[static_cast<size_t>(v.id)].code = code.id; }
  Val code(Val v) const { return {vals_[static_cast<size_t>(v.id)].code}; }

  /// An instruction without side effects, at the outermost level that knows its operands; an equal one is found again.
  template <class... P>
  Val emit(Type type, const P&... parts) {
    return emit_at(floor_, {}, type, parts...);
  }
  /// The same, no further out than `level`. `salt` tells apart loads of equal text between which memory changes.
  template <class... P>
  Val emit_at(int level, std::string_view salt, Type type, const P&... parts) {
    text_.clear();
    need_ = level;
    (put(parts), ...);
    return number(type, salt);
  }
  /// An instruction for its effect, here.
  template <class... P>
  void effect(const P&... parts) {
    text_.clear();
    (put(parts), ...);
    scopes_.back().text.append("  ").append(text_).append("\n");
  }
  /// Calls an intrinsic that is named after the type `named` (its first overload).
  Val call(std::string_view intrinsic, Type named, Type result, std::initializer_list<Val> arguments);
  /// Declares a function once; returns its name.
  std::string_view declare(const std::string& name, std::string_view result, std::string_view parameters);

  // Scopes: a loop body or branch, put into its parent's text when it is closed.
  void open_loop(Val begin, Val end);
  void close_loop();
  Val counter() const { return scopes_.back().counter; }
  /// v * factor. Of a loop's counter it goes along with the counter, by an addition an iteration, if no loop is inside of
  /// that loop: so LLVM's own strength reduction, a quarter of its time, has nothing left to do (compile.cpp).
  Val scaled(Val v, int64_t factor);
  /// A branch taken if `condition` holds. `pins` keeps every instruction inside; else only loads stay.
  void open_branch(Val condition, bool pins);
  void open_else();
  void close_branch();
  int depth() const { return static_cast<int>(scopes_.size()) - 1; }
  /// The outermost level at which something may be loaded that is safe to load here.
  int safe_level() const { return safe_; }

  Val alloca_array(Type element, int64_t count);
  /// Stores past the caches are seen by others in the order of the program only after a fence.
  void fence_at_end() { fenced_ = true; }
  Val define(Type type, int level);
  std::string finish(std::string_view entry);

  void put(std::string_view s) { text_.append(s); }
  void put(int64_t n);
  void put(Type t);
  void put(Val v);
  void put(Typed t);

 private:
  struct Info {
    Type type;
    int level = 0;
    bool constant = false;
    int64_t bits = 0;  // of a constant; of a float the bits as a double
    int scalar = -1;   // of which it is the splat
    std::string text = {};
    int half = -1;  // of which it is the float
    int code = -1;  // the same of other narrow floats
  };
  /// A loop's counter times `factor`.
  struct Product {
    int64_t factor;
    Val value;
  };
  struct Scope {
    std::string text, block, head = {}, join = {};
    std::vector<Product> products = {};
    bool has_loops = false;
    int serial = 0;
    Val begin = {}, end = {}, counter = {}, condition = {};
    int outer_floor = 0, outer_safe = 0;
  };
  struct Numbered {
    Val value;
    int level = 0, serial = 0;
  };

  Val shuffle_at(int level, Val x, Val y, const std::vector<int>& order);
  Val spread(Val v, int lanes);
  Val number(Type type, std::string_view salt);
  Val add_constant(Type type, std::string text, int64_t bits, int scalar = -1);
  std::string new_name(char kind);
  const std::string& name(Val v) const { return vals_[static_cast<size_t>(v.id)].text; }
  void open(std::string block);
  std::string head_of(const Scope& loop, Val next, std::string& before, std::string& steps);

  Natives natives_;
  std::vector<Info> vals_;
  std::vector<Scope> scopes_;
  std::unordered_map<std::string, Numbered> numbered_;
  std::unordered_map<std::string, Val> constants_;
  std::unordered_set<std::string> declared_;
  std::string text_, key_, allocas_, declarations_;
  int need_ = 0, floor_ = 0, safe_ = 0, names_ = 0, serials_ = 0;
  bool fenced_ = false;
};

}  // namespace kontor::ir
