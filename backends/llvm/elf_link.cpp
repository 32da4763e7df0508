// Links the sections of one ELF object into a flat run of bytes (System V ABI, AMD64 supplement, section 4.4).
#include "backends/llvm/elf_link.h"

#include <elf.h>

#include <cstring>
#include <span>
#include <vector>

#include "base/error.h"

namespace kontor {
namespace {

constexpr uint64_t kUnplaced = ~uint64_t{0};

class Linker {
 public:
  explicit Linker(std::string_view object) : object_(object) {
    const auto header = read<Elf64_Ehdr>(0);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_type != ET_REL || header.e_machine != EM_X86_64) {
      broken("link: the compiler's output is not a relocatable x86-64 ELF object");
    }
    sections_ = read_array<Elf64_Shdr>(header.e_shoff, header.e_shnum);
    names_ = content(sections_.at(header.e_shstrndx));
  }

  FlatCode link(std::string_view entry) {
    place(true);  // code first: the entry then starts on its own cache line
    place(false);
    read_symbols();
    for (const Elf64_Shdr& section : sections_) {
      if (section.sh_type == SHT_RELA && placed_.at(section.sh_info) != kUnplaced) relocate(section);
    }
    return {std::move(bytes_), find(entry)};
  }

 private:
  template <class T>
  T read(uint64_t offset) const {
    T value;
    if (offset > object_.size() || sizeof(T) > object_.size() - offset) broken("link: truncated object");
    std::memcpy(&value, object_.data() + offset, sizeof(T));
    return value;
  }

  template <class T>
  std::vector<T> read_array(uint64_t offset, uint64_t count) const {
    std::vector<T> all;
    for (uint64_t i = 0; i < count; ++i) all.push_back(read<T>(offset + i * sizeof(T)));
    return all;
  }

  std::string_view content(const Elf64_Shdr& section) const {
    if (section.sh_offset > object_.size() || section.sh_size > object_.size() - section.sh_offset) {
      broken("link: truncated object");
    }
    return object_.substr(section.sh_offset, section.sh_size);
  }

  static std::string_view text_at(std::string_view table, uint64_t offset) {
    return offset < table.size() ? std::string_view(table.data() + offset) : std::string_view();
  }

  // Unwind tables are not needed: no exception passes through a kernel.
  bool wanted(const Elf64_Shdr& section) const {
    return (section.sh_flags & SHF_ALLOC) != 0 && section.sh_size > 0 &&
           text_at(names_, section.sh_name) != ".eh_frame" && section.sh_type != SHT_X86_64_UNWIND;
  }

  void place(bool code) {
    placed_.resize(sections_.size(), kUnplaced);
    for (size_t i = 0; i < sections_.size(); ++i) {
      const Elf64_Shdr& section = sections_[i];
      if (!wanted(section) || ((section.sh_flags & SHF_EXECINSTR) != 0) != code) continue;
      if ((section.sh_flags & SHF_WRITE) != 0 || section.sh_type != SHT_PROGBITS) {
        fail("llvm: the kernel has writable data (section {}): it would not be shareable",
             text_at(names_, section.sh_name));
      }
      const uint64_t align = section.sh_addralign > 0 ? section.sh_addralign : 1;
      if (align > 64)
        fail("llvm: section {} asks for alignment {}, 64 at most", text_at(names_, section.sh_name), align);
      bytes_.resize((bytes_.size() + align - 1) / align * align);
      placed_[i] = bytes_.size();
      bytes_ += content(section);
    }
  }

  void read_symbols() {
    for (const Elf64_Shdr& section : sections_) {
      if (section.sh_type != SHT_SYMTAB) continue;
      symbols_ = read_array<Elf64_Sym>(section.sh_offset, section.sh_size / sizeof(Elf64_Sym));
      symbol_names_ = content(sections_.at(section.sh_link));
    }
  }

  uint64_t address(const Elf64_Sym& symbol) const {
    if (symbol.st_shndx == SHN_UNDEF) {
      fail("llvm: the kernel needs the external symbol {}, and a kernel may need none",
           text_at(symbol_names_, symbol.st_name));
    }
    if (symbol.st_shndx >= sections_.size() || placed_[symbol.st_shndx] == kUnplaced) {
      fail("llvm: the kernel refers to {}, which is not part of its code",
           text_at(symbol_names_, symbol.st_name));
    }
    return placed_[symbol.st_shndx] + symbol.st_value;
  }

  uint64_t find(std::string_view entry) const {
    for (const Elf64_Sym& symbol : symbols_) {
      if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && text_at(symbol_names_, symbol.st_name) == entry)
        return address(symbol);
    }
    broken("link: the object has no function {}", entry);
  }

  void relocate(const Elf64_Shdr& section) {
    const uint64_t base = placed_.at(section.sh_info);
    const uint64_t size = sections_.at(section.sh_info).sh_size;
    for (const auto& row : read_array<Elf64_Rela>(section.sh_offset, section.sh_size / sizeof(Elf64_Rela))) {
      const uint64_t type = ELF64_R_TYPE(row.r_info);
      const Elf64_Sym& symbol = symbols_.at(ELF64_R_SYM(row.r_info));
      const int width = type == R_X86_64_PC32 || type == R_X86_64_PLT32 ? 4 : type == R_X86_64_PC64 ? 8 : 0;
      if (width == 0) {
        fail(
            "llvm: the kernel needs a relocation of type {} for symbol '{}', and only relative ones are allowed",
            type, text_at(symbol_names_, symbol.st_name));
      }
      if (row.r_offset + static_cast<uint64_t>(width) > size) broken("link: relocation outside its section");
      const uint64_t place = base + row.r_offset;
      const uint64_t value = address(symbol) + static_cast<uint64_t>(row.r_addend) - place;
      std::memcpy(bytes_.data() + place, &value,
                  static_cast<size_t>(width));  // little endian, as the machine is
    }
  }

  std::string_view object_, names_, symbol_names_;
  std::vector<Elf64_Shdr> sections_;
  std::vector<Elf64_Sym> symbols_;
  std::vector<uint64_t> placed_;
  std::string bytes_;
};

}  // namespace

FlatCode link_flat(std::string_view object, std::string_view entry) { return Linker(object).link(entry); }

}  // namespace kontor
