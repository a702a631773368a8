// The ops on the CPU: rows are shared among the threads, and within a row V neighbours go through a vector register.
#include <ATen/Parallel.h>

#include <algorithm>

#include "vector_cpu.h"

#include "element.h"

namespace sfe {

constexpr int REGISTER = 64;  // bytes that are computed together

template <bool CHANNELS_LAST, int K, int UP, int DOWN, typename T>
void for_each_row(const Args<T>& args) {
  constexpr int V = REGISTER / sizeof(typename Accumulator<T>::type);
  const int64_t rows = static_cast<int64_t>(args.batch) * args.out_h * (CHANNELS_LAST ? 1 : args.channels);
  const int64_t row_size = static_cast<int64_t>(args.out_w) * (CHANNELS_LAST ? args.channels : 1);
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(row_size, 1));
  at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    const Args<T> a = args;  // a copy on the thread's stack, which no write through a.y can alias
    for (int64_t row = begin; row < end; ++row) {
      const int oy = row % a.out_h, map = row / a.out_h;
      if constexpr (CHANNELS_LAST) {
        for (int ox = 0; ox < a.out_w; ++ox) {
          int c = 0;
          for (; c + V <= a.channels; c += V) element<V, true, K, UP, DOWN>(a, map, c, oy, ox);
          for (; c < a.channels; ++c) element<1, true, K, UP, DOWN>(a, map, c, oy, ox);
        }
      } else {
        const int b = map / a.channels, c = map % a.channels;
        // V pixels are computed together where their windows are within the image's width
        int first = 0, last = K == 1 ? a.out_w : 0;
        if constexpr (K > 1 && UP > 0 && DOWN == 1) {
          first = std::max(0, a.pad_x);
          last = std::min(a.out_w, a.in_w * UP + a.pad_x - K + 1);
        }
        constexpr int STEP = UP > 1 ? UP : 1;
        for (int phase = 0; phase < STEP; ++phase) {
          for (int ox = phase; ox < a.out_w;) {
            if (ox >= first && ox + (V - 1) * STEP < last) {
              element<V, false, K, UP, DOWN>(a, b, c, oy, ox);
              ox += V * STEP;
            } else {
              element<1, false, K, UP, DOWN>(a, b, c, oy, ox);
              ox += STEP;
            }
          }
        }
      }
    }
  });
}

template <typename Body>
void for_each(int64_t count, const Body& body) {
  constexpr int V = REGISTER / sizeof(typename Body::Acc);
  at::parallel_for(0, count, 16384, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + V <= end; i += V) body.template at<V>(i);
    for (; i < end; ++i) body.template at<1>(i);
  });
}

}  // namespace sfe

#include "ops.h"
