// The two exceptions Kontor throws: Error is the user's mistake, InternalError is ours.
#pragma once
#include <stdexcept>
#include <string>

#ifndef KONTOR_API
#define KONTOR_API __attribute__((visibility("default")))
#endif

namespace kontor::inline v0 {

/// A mistake in what the caller asked for; the message names the operation and the offending values.
class KONTOR_API Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message);
  ~Error() override;
};

/// A defect of Kontor itself; the message carries the node concerned and, where one was written, the repro file.
class KONTOR_API InternalError : public std::logic_error {
 public:
  explicit InternalError(const std::string& message);
  ~InternalError() override;
};

}  // namespace kontor::inline v0
