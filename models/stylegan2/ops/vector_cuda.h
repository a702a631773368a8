// V numbers at a time in a GPU's thread, for element.h: 16 bytes of memory in one instruction. NVRTC compiles this, so
// no header is at hand but those of this folder.
#pragma once

#include <half.h>

#define SFE_INLINE __device__ __forceinline__
#define SFE_UNROLL _Pragma("unroll")

namespace sfe {

using Index = int;  // half the registers and a fraction of the time of 64 bits; cuda.py launches no more at once

struct Half {
  unsigned short bits;
};
struct BFloat16 {
  unsigned short bits;
};

SFE_INLINE float widen(float value) { return value; }
SFE_INLINE double widen(double value) { return value; }
SFE_INLINE float widen(Half value) { return half_to_float(value.bits); }
SFE_INLINE float widen(BFloat16 value) { return __uint_as_float(static_cast<unsigned>(value.bits) << 16); }

SFE_INLINE void narrow(float value, float& to) { to = value; }
SFE_INLINE void narrow(double value, double& to) { to = value; }
SFE_INLINE void narrow(float value, Half& to) { to.bits = float_to_half(value); }
SFE_INLINE void narrow(float value, BFloat16& to) {
  const unsigned word = __float_as_uint(value);
  const unsigned rounded = (word + 0x7fff + ((word >> 16) & 1)) >> 16;  // to the nearest, ties to even
  to.bits = value == value ? rounded : 0x7fc0;                          // NaN might have become an infinity
}

template <typename Acc, int V>
struct Vector {
  Acc v[V];

  SFE_INLINE Vector& operator+=(const Vector& other) {
    SFE_UNROLL
    for (int i = 0; i < V; ++i) v[i] += other.v[i];
    return *this;
  }
  SFE_INLINE Vector& operator*=(const Vector& other) {
    SFE_UNROLL
    for (int i = 0; i < V; ++i) v[i] *= other.v[i];
    return *this;
  }
  SFE_INLINE Vector& operator+=(Acc number) {
    SFE_UNROLL
    for (int i = 0; i < V; ++i) v[i] += number;
    return *this;
  }
  SFE_INLINE Vector& operator*=(Acc number) {
    SFE_UNROLL
    for (int i = 0; i < V; ++i) v[i] *= number;
    return *this;
  }
};
template <typename Acc, int V>
SFE_INLINE Vector<Acc, V> operator*(Vector<Acc, V> vector, Acc number) {
  return vector *= number;
}

template <typename Acc, int V>
struct Pack {
  using type = Vector<Acc, V>;
};
template <typename Acc>
struct Pack<Acc, 1> {
  using type = Acc;
};

template <typename T, int V>
struct alignas(V * sizeof(T) < 16 ? V * sizeof(T) : 16) Aligned {
  T v[V];
};

template <int V, typename Acc, typename T>
SFE_INLINE typename Pack<Acc, V>::type load(const T* from) {
  if constexpr (V == 1) {
    return widen(*from);
  } else {
    const Aligned<T, V> memory = *reinterpret_cast<const Aligned<T, V>*>(from);
    Vector<Acc, V> values;
    SFE_UNROLL
    for (int i = 0; i < V; ++i) values.v[i] = widen(memory.v[i]);
    return values;
  }
}

// V > 1 are neighbours here: STEP = 1.
template <int V, int STEP, typename Acc, typename T>
SFE_INLINE void store(T* to, typename Pack<Acc, V>::type values) {
  if constexpr (V == 1) {
    narrow(values, *to);
  } else {
    static_assert(STEP == 1);
    Aligned<T, V> memory;
    SFE_UNROLL
    for (int i = 0; i < V; ++i) narrow(values.v[i], memory.v[i]);
    *reinterpret_cast<Aligned<T, V>*>(to) = memory;
  }
}

// a where `sign` is positive, else b.
template <typename Acc, int V>
SFE_INLINE typename Pack<Acc, V>::type select(
    typename Pack<Acc, V>::type sign, typename Pack<Acc, V>::type a, typename Pack<Acc, V>::type b) {
  if constexpr (V == 1) {
    return sign > Acc(0) ? a : b;
  } else {
    SFE_UNROLL
    for (int i = 0; i < V; ++i) b.v[i] = sign.v[i] > Acc(0) ? a.v[i] : b.v[i];
    return b;
  }
}

}  // namespace sfe
