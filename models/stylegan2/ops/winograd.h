// What the Winograd convs share: registers, matrix products of transformed tiles with transformed weights, and how the
// weights are read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#ifdef __AVX__
#include <immintrin.h>
#endif

namespace sfe {
namespace {

constexpr int PANEL = 32;  // output channels side by side in the transformed weight, see winograd_weight in native.py
#ifdef __AVX512F__
constexpr int WIDTH = 16, ROWS = 14;  // floats in a register; rows of a product's block: 14·2 sums in 32 registers
#else
constexpr int WIDTH = 8, ROWS = 6;  // 6·2 sums in 16 registers
#endif
constexpr int STEP = 16;  // channels that the transforms take at a time
typedef float Vector __attribute__((vector_size(WIDTH * sizeof(float))));
typedef float Channels __attribute__((vector_size(STEP * sizeof(float))));

template <typename V>
inline V load(const float* from) {
  V v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
template <typename V>
inline void store(float* to, V v) {
  std::memcpy(to, &v, sizeof(v));
}

// Stores past the caches, for results larger than they are: in half the time, as lines are not read first. `to` is at a
// multiple of 64 bytes. Call `stored` before another thread reads the results.
inline void store_past_caches(float* to, Channels v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, (__m512)v);
#elif defined(__AVX__)
  float numbers[STEP];
  store(numbers, v);
  _mm256_stream_ps(to, _mm256_loadu_ps(numbers));
  _mm256_stream_ps(to + 8, _mm256_loadu_ps(numbers + 8));
#else
  store(to, v);
#endif
}
inline void stored() {
#ifdef __AVX__
  _mm_sfence();
#endif
}

// c (M×2·WIDTH) = a (M×depth) · b (depth×PANEL, of which 2·WIDTH columns are read).
template <int M>
void multiply_block(const float* a, int64_t a_stride, const float* b, float* c, int64_t c_stride, int64_t depth) {
  Vector sum[M][2] = {};
  for (int64_t k = 0; k < depth; ++k, b += PANEL) {
    const Vector b0 = load<Vector>(b), b1 = load<Vector>(b + WIDTH);
#pragma GCC unroll 14
    for (int m = 0; m < M; ++m) {
      const float v = a[m * a_stride + k];
      sum[m][0] += v * b0;
      sum[m][1] += v * b1;
    }
  }
#pragma GCC unroll 14
  for (int m = 0; m < M; ++m) {
    store(c + m * c_stride, sum[m][0]);
    store(c + m * c_stride + WIDTH, sum[m][1]);
  }
}

template <int M = ROWS>
void multiply_rows(
    int64_t rows, const float* a, int64_t a_stride, const float* b, float* c, int64_t c_stride, int64_t depth) {
  if constexpr (M > 1) {
    if (rows < M) return multiply_rows<M - 1>(rows, a, a_stride, b, c, c_stride, depth);
  }
  multiply_block<M>(a, a_stride, b, c, c_stride, depth);
}

// c (rows×panels·PANEL) = a (rows×depth) · b (panels×depth×PANEL).
void multiply(int64_t rows, int64_t depth, int64_t panels, const float* a, const float* b, float* c) {
  const int64_t blocks = (rows + ROWS - 1) / ROWS, block = (rows + blocks - 1) / blocks;
  for (int64_t panel = 0; panel < panels; ++panel) {
    for (int64_t row = 0; row < rows; row += block) {
      for (int column = 0; column < PANEL; column += 2 * WIDTH) {
        multiply_rows(
            std::min(block, rows - row), a + row * depth, depth, b + panel * depth * PANEL + column,
            c + (row * panels + panel) * PANEL + column, panels * PANEL, depth);
      }
    }
  }
}

// The transpose of 16×16 floats, a row in each vector.
inline void transpose(Channels* rows) {
#ifdef __clang__
  Channels t[STEP];
  for (int i = 0; i < STEP; ++i) {
    for (int j = 0; j < STEP; ++j) t[j][i] = rows[i][j];
  }
  std::memcpy(rows, t, sizeof(t));
#else
  typedef int Lanes __attribute__((vector_size(STEP * sizeof(int))));
#pragma GCC unroll 4
  for (int s = 1; s < STEP; s *= 2) {  // swap bit s of the row's number with that of the lane's
    Lanes low, high;
    for (int l = 0; l < STEP; ++l) low[l] = l & s ? l - s + STEP : l, high[l] = l & s ? l + STEP : l + s;
#pragma GCC unroll 16
    for (int i = 0; i < STEP; ++i) {
      if (i & s) continue;
      const Channels a = rows[i], b = rows[i + s];
      rows[i] = __builtin_shuffle(a, b, low);
      rows[i + s] = __builtin_shuffle(a, b, high);
    }
  }
#endif
}

// Of a weight O×in×3×3, the 16 output channels at w: 9·in vectors of their numbers, in the order of memory. For 16
// input channels at a time, calls use(channel, taps), where taps are nine vectors of output channels.
template <typename Use>
void read_taps(const float* w, int64_t in, const Use& use) {
  for (int64_t first = 0; first < in; first += STEP) {
    Channels taps[9 * STEP];
    for (int k = 0; k < 9; ++k) {
      for (int o = 0; o < STEP; ++o) taps[k * STEP + o] = load<Channels>(w + (o * in + first) * 9 + k * STEP);
      transpose(taps + k * STEP);
    }
    for (int c = 0; c < STEP; ++c) use(first + c, taps + 9 * c);
  }
}

}  // namespace
}  // namespace sfe
