// The checks of a stage while it is lowered: what may fail at run time, and where that counts.
#pragma once
#include <string>
#include <vector>

#include "codegen/stages/stage.h"

namespace kontor {

/// Values that have checks, as a graph of who reads whom: a value is lowered once, however many read it, and its checks count
/// where one of the readers takes it.
class Checks {
 public:
  /// A new stage: nothing is open but the stage itself, which counts always.
  void begin();
  /// Around the lowering of a value: what is added and read in between is its own. Returns its number.
  void open() { open_.emplace_back(); }
  size_t close();
  /// The open value reads another one where `condition` holds (null: always).
  void read(size_t value, const Ref& condition) { open_.back().reads.push_back({value, condition}); }
  /// `ok` must hold where `guard` does (null: always). `shown` is what the text shows (may be null).
  void add(const Ref& ok, const Ref& guard, const std::string& what, const Ref& shown);
  /// The stage's checks, numbered on in `texts`; nothing is open then but the stage.
  void settle(Stage& stage, std::vector<std::string>& texts);

 private:
  struct Read {
    size_t value;
    Ref condition;
  };
  struct Check {
    Ref ok;
    std::string what;
    Ref shown;
    size_t value = 0;  // that it was added to
  };
  struct Value {
    std::vector<size_t> checks;
    std::vector<Read> reads;
  };
  std::vector<Value> closed_;  // what a value reads stands before it
  std::vector<Value> open_;    // innermost last
  std::vector<Check> checks_;  // in the order in which they were met
};

}  // namespace kontor
