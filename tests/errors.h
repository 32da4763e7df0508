// error_of(...): the text of the kontor::Error an action throws, or "" where it throws none.
#pragma once
#include <string>

#include <kontor/types.h>

namespace kontor {

template <class F>
std::string error_of(F&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace kontor
