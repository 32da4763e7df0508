// NodeMap and NodeSet: what is known of each node, by address.
#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"

namespace kontor {

inline namespace v0 {
class Node;
}

/// A hash table in two pieces of memory: the entries, in order of insertion, and their numbers. A walk over a large graph is
/// made of cache misses; nodes that were made one after the other lie side by side, and so do their slots here.
template <class Entry>
class NodeEntries {
 public:
  using iterator = typename std::vector<Entry>::iterator;
  using const_iterator = typename std::vector<Entry>::const_iterator;

  iterator begin() { return entries_.begin(); }
  iterator end() { return entries_.end(); }
  const_iterator begin() const { return entries_.begin(); }
  const_iterator end() const { return entries_.end(); }
  size_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }
  void clear() { entries_.clear(), slots_.clear(); }

  iterator find(const Node* node) { return entries_.begin() + place(node); }
  const_iterator find(const Node* node) const { return entries_.begin() + place(node); }
  bool contains(const Node* node) const { return find(node) != end(); }
  size_t count(const Node* node) const { return contains(node); }

 protected:
  /// The node's entry and whether it is new, which `args` are what it is made of.
  template <class... Args>
  std::pair<iterator, bool> add(const Node* node, Args&&... args) {
    if (2 * entries_.size() >= slots_.size()) grow();
    uint32_t& slot = slots_[slot_of(node)];
    const bool is_new = slot == 0;
    if (is_new) {
      entries_.emplace_back(std::forward<Args>(args)...);
      slot = static_cast<uint32_t>(entries_.size());
    }
    return {entries_.begin() + (slot - 1), is_new};
  }

 private:
  std::vector<Entry> entries_;
  std::vector<uint32_t> slots_;  // 1 + an entry's number; 0: free

  static const Node* key(const Node* entry) { return entry; }
  template <class T>
  static const Node* key(const std::pair<const Node*, T>& entry) {
    return entry.first;
  }

  std::ptrdiff_t place(const Node* node) const {
    const uint32_t slot = slots_.empty() ? 0 : slots_[slot_of(node)];
    return slot ? slot - std::ptrdiff_t{1} : static_cast<std::ptrdiff_t>(entries_.size());
  }

  // Where the node's number is, or would be. What lies in one page of memory lies in one piece of the table.
  size_t slot_of(const Node* node) const {
    const uint64_t address = reinterpret_cast<uintptr_t>(node);
    const size_t mask = slots_.size() - 1;
    size_t at = (((address >> 12) * 0x9e3779b97f4a7c15ull >> 32) + (address >> 4 & 255)) & mask;
    while (slots_[at] && key(entries_[slots_[at] - 1]) != node) at = (at + 1) & mask;
    return at;
  }

  void grow() {
    slots_.assign(slots_.empty() ? 16 : slots_.size() * 4, 0);
    for (size_t i = 0; i < entries_.size(); i++)
      slots_[slot_of(key(entries_[i]))] = static_cast<uint32_t>(i + 1);
  }
};

class NodeSet : public NodeEntries<const Node*> {
 public:
  NodeSet() = default;
  template <class I>
  NodeSet(I first, I last) {
    insert(first, last);
  }
  /// Whether the node is new.
  bool insert(const Node* node) { return add(node, node).second; }
  template <class I>
  void insert(I first, I last) {
    for (; first != last; ++first) insert(*first);
  }
};

/// What std::unordered_map offers of it; but an insertion moves the values.
template <class T>
class NodeMap : public NodeEntries<std::pair<const Node*, T>> {
  using Entries = NodeEntries<std::pair<const Node*, T>>;

 public:
  NodeMap() = default;
  NodeMap(std::initializer_list<std::pair<const Node*, T>> entries) {
    for (const auto& [node, value] : entries) emplace(node, value);
  }
  /// An entry that is there stays as it is.
  template <class... Args>
  auto emplace(const Node* node, Args&&... args) {
    return this->add(node, std::piecewise_construct, std::forward_as_tuple(node),
                     std::forward_as_tuple(std::forward<Args>(args)...));
  }
  void insert_or_assign(const Node* node, T value) { (*this)[node] = std::move(value); }
  T& operator[](const Node* node) { return emplace(node).first->second; }
  T& at(const Node* node) { return known(this->find(node), this->end())->second; }
  const T& at(const Node* node) const { return known(this->find(node), this->end())->second; }

 private:
  template <class I>
  static I known(I found, I end) {
    if (found == end) broken("a node that the map does not have");
    return found;
  }
};

}  // namespace kontor
