// The form of a loop tree: what trees that one program can serve have in common. They may differ in which scalars their slots
// are, and in constants that may just as well be read from a slot.
#pragma once
#include <string>
#include <vector>

#include "codegen/tree/tree.h"

namespace kontor {

/// Where a program's slot comes from: from a scalar of the launch, or it is always this value.
struct SlotSource {
  int64_t scalar = -1;  ///< -1: none
  int64_t value = 0;
  friend bool operator==(const SlotSource&, const SlotSource&) = default;
};

struct KernelForm {
  std::string key;                 ///< equal for trees of one form
  std::vector<int64_t> scalars;    ///< numbers of the scalars read, in order of first use
  std::vector<int64_t> constants;  ///< bits of those that may become slots, in order of use
};
KernelForm form_of(const Ref& tree);

/// The tree with its slots numbered as in `form.scalars`, and behind them, as slots too, the constants that `lifted` names
/// (one flag each; none: no constant). Each is computed with as before: the results have the same bits.
Ref with_own_slots(const Ref& tree, const KernelForm& form, const std::vector<bool>& lifted);
/// What these slots hold.
std::vector<SlotSource> slots_of(const KernelForm& form, const std::vector<bool>& lifted);

}  // namespace kontor
