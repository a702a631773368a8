// V numbers at a time in a CPU's vector register, for element.h.
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#define SFE_INLINE inline __attribute__((always_inline))
#define SFE_UNROLL _Pragma("GCC unroll 4")

namespace sfe {

using Index = int64_t;

template <typename Acc, int V>
struct Pack {
  typedef Acc type __attribute__((vector_size(V * sizeof(Acc))));
};
template <typename Acc>
struct Pack<Acc, 1> {
  using type = Acc;
};

// bfloat16 is the upper half of a float32. A CPU converts V of them at once: one by one they would take several times
// as long as the arithmetic.
template <int V>
struct Bfloat16 {
  using Values = typename Pack<float, V>::type;
  using Halves = typename Pack<uint16_t, V>::type;
  using Words = typename Pack<uint32_t, V>::type;

  static SFE_INLINE Values load(const void* from) {
    Halves halves;
    std::memcpy(&halves, from, sizeof(halves));
    const Words words = __builtin_convertvector(halves, Words) << 16;
    Values values;
    std::memcpy(&values, &words, sizeof(values));
    return values;
  }

  static SFE_INLINE void store(void* to, Values values) {
    Words words;
    std::memcpy(&words, &values, sizeof(words));
    words = (words + 0x7fff + ((words >> 16) & 1)) >> 16;  // to the nearest, of two equally near to the even one
    words = values == values ? words : Words{} + 0x7fc0;   // NaN, which rounding might have made an infinity
    const Halves halves = __builtin_convertvector(words, Halves);
    std::memcpy(to, &halves, sizeof(halves));
  }
};

template <int V, typename Acc, typename T>
SFE_INLINE typename Pack<Acc, V>::type load(const T* from) {
  typename Pack<Acc, V>::type values;
  if constexpr (V == 1) {
    values = static_cast<Acc>(*from);
  } else if constexpr (sizeof(T) == sizeof(Acc)) {
    std::memcpy(&values, from, sizeof(values));
  } else if constexpr (std::is_same_v<T, c10::BFloat16>) {
    values = Bfloat16<V>::load(from);
  } else {
    for (int v = 0; v < V; ++v) values[v] = static_cast<Acc>(from[v]);
  }
  return values;
}

// To every STEP-th place from `to` on.
template <int V, int STEP, typename Acc, typename T>
SFE_INLINE void store(T* to, typename Pack<Acc, V>::type values) {
  if constexpr (V == 1) {
    *to = static_cast<T>(values);
  } else if constexpr (sizeof(T) == sizeof(Acc) && STEP == 1) {
    std::memcpy(to, &values, sizeof(values));
  } else if constexpr (std::is_same_v<T, c10::BFloat16> && STEP == 1) {
    Bfloat16<V>::store(to, values);
  } else {
    for (int v = 0; v < V; ++v) to[v * STEP] = static_cast<T>(values[v]);
  }
}

// a where `sign` is positive, else b.
template <typename Acc, int V>
SFE_INLINE typename Pack<Acc, V>::type select(
    typename Pack<Acc, V>::type sign, typename Pack<Acc, V>::type a, typename Pack<Acc, V>::type b) {
  return sign > Acc(0) ? a : b;
}

}  // namespace sfe
