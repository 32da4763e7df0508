// See checks.h.
#include "codegen/stages/checks.h"

#include "base/error.h"
#include "graph/index/index.h"

namespace kontor {

namespace {

Ref unless(const Ref& condition, const Ref& ok) { return make(Op::Or, {make(Op::Not, {condition}), ok}); }

/// Where a value is taken: nowhere yet, somewhere, or always.
struct Taken {
  bool at_all = false;
  Ref where;  // null: always

  void also(const Taken& reader, const Ref& condition) {
    const Ref here = !reader.where ? condition
                     : condition   ? make(Op::And, {reader.where, condition})
                                   : reader.where;
    where = !at_all                          ? here
            : where && here && where != here ? make(Op::Or, {where, here})
            : where == here                  ? where
                                             : Ref();
    at_all = true;
  }
};

}  // namespace

void Checks::begin() {
  closed_.clear();
  checks_.clear();
  open_.assign(1, {});
}

size_t Checks::close() {
  for (size_t c : open_.back().checks) checks_[c].value = closed_.size();
  closed_.push_back(std::move(open_.back()));
  open_.pop_back();
  return closed_.size() - 1;
}

void Checks::add(const Ref& ok, const Ref& guard, const std::string& what, const Ref& shown) {
  const Ref condition = guard ? unless(guard, ok) : ok;
  if (is_int(condition, 1)) return;
  open_.back().checks.push_back(checks_.size());
  checks_.push_back({condition, what, shown});
}

void Checks::settle(Stage& stage, std::vector<std::string>& texts) {
  if (open_.size() != 1) broken("checks: {} values are still being lowered", open_.size() - 1);
  const size_t whole = close();
  std::vector<Taken> taken(closed_.size());
  taken[whole].at_all = true;
  for (size_t v = closed_.size(); v-- > 0;)  // a value after all that read it
    for (const Read& r : closed_[v].reads)
      if (taken[v].at_all) taken[r.value].also(taken[v], r.condition);
  for (const Check& c : checks_) {
    const Ref& where = taken[c.value].where;
    const Ref condition = where ? unless(where, c.ok) : c.ok;
    bool known = is_int(condition, 1);
    for (const StageCheck& other : stage.checks) known = known || other.condition == condition;
    if (known) continue;
    texts.push_back(c.what);
    stage.checks.push_back({condition, static_cast<int64_t>(texts.size()), c.shown});
  }
  begin();
}

}  // namespace kontor
