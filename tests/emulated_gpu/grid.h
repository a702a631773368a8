// CUDA's language for kernels without shared memory and barriers, as C++ that a CPU runs.
#pragma once

#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct Index3 {
  unsigned x, y, z;
};
static thread_local Index3 gridDim, blockDim, blockIdx, threadIdx;

inline float __uint_as_float(unsigned word) { return __builtin_bit_cast(float, word); }
inline unsigned __float_as_uint(float value) { return __builtin_bit_cast(unsigned, value); }
