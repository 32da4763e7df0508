// Walking the streams of a schedule.
#include "codegen/program/launches.h"

namespace kontor {

namespace {

struct Walk {
  std::span<const ScheduledStream> streams;
  std::vector<int64_t>& slots;
  const std::function<void(size_t)>& launch;

  // Kernels first..end-1; streams from `stream` on are inside of those that are running.
  void range(size_t first, size_t end, size_t stream) {
    for (size_t k = first; k < end;) {
      while (stream < streams.size() && streams[stream].first < k) ++stream;
      if (stream == streams.size() || streams[stream].first > k) {
        launch(k++);
        continue;
      }
      const ScheduledStream& s = streams[stream++];
      for (int64_t piece = 0; piece < s.pieces(); ++piece) {
        for (const ScheduledStream::Slot& slot : s.slots) slots[slot.number] = s.begin(piece) / slot.divisor;
        range(k, s.last + 1, stream);
      }
      k = s.last + 1;
    }
  }
};

}  // namespace

void for_each_launch(size_t kernels, std::span<const ScheduledStream> streams, std::vector<int64_t>& slots,
                     const std::function<void(size_t)>& launch) {
  for (const ScheduledStream& s : streams)
    for (const ScheduledStream::Slot& slot : s.slots) slots.resize(std::max(slots.size(), slot.number + 1));
  Walk{streams, slots, launch}.range(0, kernels, 0);
}

size_t count_launches(size_t kernels, std::span<const ScheduledStream> streams) {
  size_t count = 0;
  for (size_t k = 0; k < kernels; ++k) {
    size_t times = 1;
    for (const ScheduledStream& s : streams)
      if (s.first <= k && k <= s.last) times *= static_cast<size_t>(s.pieces());
    count += times;
  }
  return count;
}

}  // namespace kontor
