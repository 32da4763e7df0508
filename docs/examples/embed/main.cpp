// A program that embeds Kontor: one fused kernel on whatever device is there, and a mistake with its message.
#include <kontor/kontor.h>

#include <iostream>

int main() {
  auto a = kontor::Tensor::arange(6).reshape({2, 3});
  kontor::Tensor b = (a * 2 + 1).sum(1);  // recorded, not yet computed
  std::cout << b.to_string() << "\n";     // scheduled, fused, compiled and run here
  try {
    a.matmul(a);
  } catch (const kontor::Error& error) {
    std::cout << error.what() << "\n";
  }
}
