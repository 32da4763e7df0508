// Lru: a map whose values weigh no more than a limit together: the one that was not asked for the longest goes first.
#pragma once
#include <cstddef>
#include <functional>
#include <list>
#include <unordered_map>
#include <utility>

namespace kontor {

template <class Key, class Value, class Hash = std::hash<Key>>
class Lru {
 public:
  explicit Lru(size_t limit) : limit_(limit) {}

  /// The value, which counts as the last one used from now on; null if there is none.
  Value* find(const Key& key) {
    const auto it = entries_.find(key);
    if (it == entries_.end()) return nullptr;
    order_.splice(order_.begin(), order_, it->second.place);
    return &it->second.value;
  }

  /// Adds a value, or replaces the one of this key. It stays even if it weighs more than all may.
  Value& put(Key key, Value value, size_t weight = 1) {
    const auto [it, fresh] = entries_.try_emplace(std::move(key));
    Entry& entry = it->second;
    if (fresh) entry.place = order_.insert(order_.begin(), &it->first);
    else order_.splice(order_.begin(), order_, entry.place);
    entry.value = std::move(value);
    weight_ += weight - std::exchange(entry.weight, weight);
    shrink();
    return entry.value;
  }

  size_t size() const { return entries_.size(); }
  size_t weight() const { return weight_; }
  size_t limit() const { return limit_; }
  void set_limit(size_t limit) {
    limit_ = limit;
    shrink();
  }
  void clear() {
    order_.clear();
    entries_.clear();
    weight_ = 0;
  }
  /// f(key, value) for all, in no order.
  template <class F>
  void for_each(const F& f) const {
    for (const auto& [key, entry] : entries_) f(key, entry.value);
  }

 private:
  struct Entry {
    Value value = {};
    size_t weight = 0;
    typename std::list<const Key*>::iterator place = {};
  };
  size_t limit_, weight_ = 0;
  std::unordered_map<Key, Entry, Hash> entries_;
  std::list<const Key*> order_;  // of the keys in entries_, the last used first

  void shrink() {
    while (weight_ > limit_ && order_.size() > 1) {
      const auto last = entries_.find(*order_.back());
      order_.pop_back();
      weight_ -= last->second.weight;
      entries_.erase(last);
    }
  }
};

}  // namespace kontor
