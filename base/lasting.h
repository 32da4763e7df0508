// What lives as long as the process. Objects with static storage are destroyed when main returns, while threads of the host
// program may go on and its own static objects may still hold Tensors; so the library's are never destroyed.
#pragma once
#include <type_traits>
#include <utility>

namespace kontor {

/// Moves a value to a place where it stays. For `static const T& name = lasting(make());`, which keeps it reachable, so
/// that it does not count as a leak.
template <class T>
std::remove_cvref_t<T>& lasting(T&& value) {
  return *new std::remove_cvref_t<T>(std::forward<T>(value));
}

/// A thread's own object, made by its first use. Threads give it back when they end; what a thread's later destructors (of
/// static objects, in main's thread) still do with it uses a new one, which lasts. `Tag` tells two of one type apart.
template <class T, class Tag = T>
T& of_thread() {
  thread_local T* object = nullptr;  // no destructor: may be read to the end
  struct Owner {
    ~Owner() { delete std::exchange(object, nullptr); }
  };
  if (object == nullptr) {
    object = new T;
    thread_local Owner owner;
    (void)owner;
  }
  return *object;
}

/// Keeps an object that must neither be used nor destroyed any more (its threads are gone) reachable.
void keep_forever(const void* object);

}  // namespace kontor
