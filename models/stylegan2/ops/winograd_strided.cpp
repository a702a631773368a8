// 3×3 convs with stride 2, and transposed ones, by Winograd's F(4×4, ·) on their phases: float32, channels_last.
//
// Along an axis, two of the three taps read pixels of one phase, and one tap those of the other. Two taps on four
// neighbours are 5 products by F(4, 2) with the points 0, 1, −1, 2 and ∞, one tap on four is 4: nine instead of twelve,
// 81 instead of 144 on a tile of 4×4. The nine "points" along an axis are those five, then those four; as the four have
// one weight, there are 6×6 matrices of weights. A transposed conv is the same with input and output exchanged.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "pages.h"
#include "winograd.h"

namespace sfe {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

constexpr int POINTS = 9;  // along an axis


// Three taps along one axis to six weights.
inline void weights(const Channels* w, int64_t step, Channels* t, int64_t t_step) {
  const Channels first = w[0], middle = w[step], last = w[2 * step];
  t[0] = first * 0.5f;
  t[t_step] = (first + last) * -0.5f;
  t[2 * t_step] = (last - first) * (1.f / 6);
  t[3 * t_step] = (first + 2.f * last) * (1.f / 6);
  t[4 * t_step] = last;
  t[5 * t_step] = middle;
}

// Five neighbours to five points.
inline void two_taps_in(
    Channels d0, Channels d1, Channels d2, Channels d3, Channels d4, Channels* t, int64_t t_step) {
  t[0] = 2.f * (d0 - d2) + d3 - d1;
  t[t_step] = d3 - d2 - 2.f * d1;
  t[2 * t_step] = 2.f * d1 - 3.f * d2 + d3;
  t[3 * t_step] = d3 - d1;
  t[4 * t_step] = 2.f * (d1 - d3) + d4 - d2;
}

// Five products to four neighbours.
inline void two_taps_out(const Channels* m, int64_t step, Channels* y) {
  const Channels sum = m[step] + m[2 * step], difference = m[step] - m[2 * step], m3 = m[3 * step];
  y[0] = m[0] + sum + m3;
  y[1] = difference + 2.f * m3;
  y[2] = sum + 4.f * m3;
  y[3] = difference + 8.f * m3 + m[4 * step];
}

// Conv with stride 2 and padding 1: nine pixels along an axis to nine points, nine products to four pixels.
struct Down {
  static constexpr int IN = 9, IN_STEP = 8, OUT = 4;
  static void in(const Channels* d, int64_t step, Channels* t, int64_t t_step) {
    two_taps_in(d[0], d[2 * step], d[4 * step], d[6 * step], d[8 * step], t, t_step);
    for (int i = 0; i < 4; ++i) t[(5 + i) * t_step] = d[(2 * i + 1) * step];
  }
  static void out(const Channels* m, int64_t step, Channels* y, int64_t y_step) {
    Channels two[4];
    two_taps_out(m, step, two);
    for (int i = 0; i < 4; ++i) y[i * y_step] = two[i] + m[(5 + i) * step];
  }
};

// Transposed conv with stride 2: five pixels along an axis to nine points, nine products to eight pixels.
struct Up {
  static constexpr int IN = 5, IN_STEP = 4, OUT = 8;
  static void in(const Channels* d, int64_t step, Channels* t, int64_t t_step) {
    two_taps_in(d[0], d[step], d[2 * step], d[3 * step], d[4 * step], t, t_step);
    for (int i = 0; i < 4; ++i) t[(5 + i) * t_step] = d[(1 + i) * step];
  }
  static void out(const Channels* m, int64_t step, Channels* y, int64_t y_step) {
    Channels two[4];
    two_taps_out(m, step, two);
    for (int i = 0; i < 4; ++i) y[2 * i * y_step] = two[i], y[(2 * i + 1) * y_step] = m[(5 + i) * step];
  }
};

struct Map {  // B×height×width×channels
  int64_t height, width, channels;
  int64_t tiles_y, tiles_x;  // of this map's tiles, however large they are
};

// v: 81 points, each `stride` apart; outside the image is 0. Transform: Down or Up.
template <typename Transform>
void input_tile(const float* x, const Map& map, const float* scale, int64_t tile, float* v, int64_t stride) {
  constexpr int N = Transform::IN;
  const int64_t b = tile / (map.tiles_y * map.tiles_x), at = tile % (map.tiles_y * map.tiles_x);
  const int64_t top = at / map.tiles_x * Transform::IN_STEP - 1, left = at % map.tiles_x * Transform::IN_STEP - 1;
  const bool inside = top >= 0 && left >= 0 && top + N <= map.height && left + N <= map.width;
  const float* from = x + ((b * map.height + top) * map.width + left) * map.channels;
  for (int64_t c = 0; c < map.channels; c += STEP) {
    Channels d[N * N], t[POINTS * N], u[POINTS * POINTS];
    const Channels factor = scale ? load<Channels>(scale + b * map.channels + c) : Channels{} + 1.f;
    for (int i = 0; i < N; ++i) {
      for (int j = 0; j < N; ++j) {
        const bool in = inside || (top + i >= 0 && top + i < map.height && left + j >= 0 && left + j < map.width);
        d[i * N + j] = in ? load<Channels>(from + (i * map.width + j) * map.channels + c) * factor : Channels{};
      }
    }
    for (int j = 0; j < N; ++j) Transform::in(d + j, N, t + j, N);
    for (int i = 0; i < POINTS; ++i) Transform::in(t + i * N, 1, u + i * POINTS, 1);
    for (int p = 0; p < POINTS * POINTS; ++p) store(v + p * stride + c, u[p]);
  }
}

// m: 81 points, each `stride` apart, of `count` channels that begin at `first` of the map's.
template <typename Transform>
void output_tile(
    const float* m, int64_t stride, const Map& map, int64_t tile, int64_t first, int64_t count, const float* bias,
    float slope, float* to) {
  constexpr int N = Transform::OUT;
  const int64_t b = tile / (map.tiles_y * map.tiles_x), at = tile % (map.tiles_y * map.tiles_x);
  const int64_t top = at / map.tiles_x * N, left = at % map.tiles_x * N;
  const int64_t rows = std::min<int64_t>(N, map.height - top), columns = std::min<int64_t>(N, map.width - left);
  for (int64_t c = 0; c < count; c += STEP) {
    Channels d[POINTS * POINTS], t[N * POINTS], y[N * N];
    const Channels add = bias ? load<Channels>(bias + c) : Channels{};
    for (int p = 0; p < POINTS * POINTS; ++p) d[p] = load<Channels>(m + p * stride + c);
    for (int j = 0; j < POINTS; ++j) Transform::out(d + j, POINTS, t + j, POINTS);
    for (int i = 0; i < N; ++i) Transform::out(t + i * POINTS, 1, y + i * N, 1);
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < columns; ++j) {
        const Channels v = y[i * N + j] + add;
        store(to + ((b * map.height + top + i) * map.width + left + j) * map.channels + first + c, v > 0.f ? v : v * slope);
      }
    }
  }
}

// The weights of 16 output channels at w (16×in×3×3): 36×in of them, as `to(filter, channel)` says where.
template <bool FLIP, typename To>
void transform_weights(const float* w, int64_t in, const To& to) {
  read_taps(w, in, [&](int64_t channel, const Channels* taps) {
    Channels d[9], t[18], u[36];
    for (int k = 0; k < 9; ++k) d[k] = taps[FLIP ? 8 - k : k];
    for (int j = 0; j < 3; ++j) weights(d + j, 3, t + j, 3);
    for (int i = 0; i < 6; ++i) weights(t + i * 3, 1, u + i * 6, 1);
    for (int f = 0; f < 36; ++f) store(to(f, channel), u[f]);
  });
}

// For all points p: m[p] (rows×panels·PANEL) = v[p] (rows×in) · the weights of p, which are `u_stride` apart.
void multiply_points(
    int64_t rows, int64_t in, int64_t panels, const float* v, int64_t v_stride, const float* u, int64_t u_stride,
    float* m, int64_t m_stride) {
  for (int f = 0; f < 36; ++f) {  // the points of a weight one after the other, so that it stays in the cache
    for (int y = f / 6; y < (f / 6 < 5 ? f / 6 + 1 : POINTS); ++y) {
      for (int x = f % 6; x < (f % 6 < 5 ? f % 6 + 1 : POINTS); ++x) {
        const int p = y * POINTS + x;
        multiply(rows, in, panels, v + p * v_stride, u + f * u_stride, m + p * m_stride);
      }
    }
  }
}

constexpr int64_t CHUNK = 64;  // tiles that are multiplied at a time

// For each of the weights (O×in×3×3) with its bias, leaky ReLU of slope (conv(x)). Weights are read as they are stored
// and transformed where they are used; each panel of them is used by one thread, for all tiles.
std::vector<Tensor> winograd_down(
    const Tensor& x, const std::vector<Tensor>& weights, const std::vector<Tensor>& biases, double slope) {
  const auto layout = at::MemoryFormat::ChannelsLast;
  const Tensor from = x.contiguous(layout);
  const int64_t batch = x.size(0), in = x.size(1), height = (x.size(2) + 1) / 2, width = (x.size(3) + 1) / 2;
  const int64_t tiles_y = (height + 3) / 4, tiles_x = (width + 3) / 4, tiles = batch * tiles_y * tiles_x;
  struct Job {
    const float *weight, *bias;
    float* y;
    int64_t channels, first;
  };
  std::vector<Tensor> dense, results;
  std::vector<Job> jobs;
  for (size_t i = 0; i < weights.size(); ++i) {
    const int64_t out = weights[i].size(0);
    dense.push_back(weights[i].contiguous());
    dense.push_back(biases[i].contiguous());
    results.push_back(at::empty({batch, out, height, width}, x.options(), layout));
    for (int64_t first = 0; first < out; first += PANEL) {
      jobs.push_back({
          dense[2 * i].const_data_ptr<float>() + first * in * 9, dense[2 * i + 1].const_data_ptr<float>() + first,
          results[i].mutable_data_ptr<float>(), out, first});
    }
  }
  if (tiles == 0) return results;
  const Map source{x.size(2), x.size(3), in, tiles_y, tiles_x};
  const int64_t v_stride = tiles * in + 16, m_stride = std::min(tiles, CHUNK) * PANEL + 16, u_stride = in * PANEL + 16;
  const Tensor transformed = with_large_pages(at::empty({81 * v_stride}, x.options()));
  float* const v = transformed.mutable_data_ptr<float>();
  const float* const pixels = from.const_data_ptr<float>();
  at::parallel_for(0, tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) input_tile<Down>(pixels, source, nullptr, t, v + t * in, v_stride);
  });
  at::parallel_for(0, static_cast<int64_t>(jobs.size()), 1, [&](int64_t begin, int64_t end) {
    const Tensor buffer = with_large_pages(at::empty({36 * u_stride + 81 * m_stride}, x.options()));
    float* const u = buffer.mutable_data_ptr<float>();
    float* const m = u + 36 * u_stride;
    for (int64_t i = begin; i < end; ++i) {
      const Job& job = jobs[i];
      const Map target{height, width, job.channels, tiles_y, tiles_x};
      for (int half = 0; half < PANEL; half += STEP) {
        transform_weights<false>(job.weight + half * in * 9, in, [&](int f, int64_t channel) {
          return u + f * u_stride + channel * PANEL + half;
        });
      }
      for (int64_t first = 0; first < tiles; first += CHUNK) {
        const int64_t count = std::min(CHUNK, tiles - first);
        multiply_points(count, in, 1, v + first * in, v_stride, u, u_stride, m, m_stride);
        for (int64_t t = 0; t < count; ++t) {
          output_tile<Down>(
              m + t * PANEL, m_stride, target, first + t, job.first, PANEL, job.bias, static_cast<float>(slope), job.y);
        }
      }
    }
  });
  return results;
}

Tensor winograd_up(const Tensor& x, const Tensor& weight, const OptionalTensor& in_scale) {
  const auto layout = at::MemoryFormat::ChannelsLast;
  const Tensor from = x.contiguous(layout), scale = in_scale ? in_scale->contiguous() : Tensor();
  const int64_t batch = x.size(0), in = x.size(1), panels = weight.size(1), out = panels * PANEL;
  const int64_t tiles_y = x.size(2) / 4 + 1, tiles_x = x.size(3) / 4 + 1, tiles = batch * tiles_y * tiles_x;
  const Map source{x.size(2), x.size(3), in, tiles_y, tiles_x};
  const Map target{2 * x.size(2) + 1, 2 * x.size(3) + 1, out, tiles_y, tiles_x};
  const Tensor y = with_large_pages(at::empty({batch, out, target.height, target.width}, x.options(), layout));
  if (tiles == 0) return y;
  const float* const pixels = from.const_data_ptr<float>();
  const float* const factors = scale.defined() ? scale.const_data_ptr<float>() : nullptr;
  const float* const u = weight.const_data_ptr<float>();
  float* const to = y.mutable_data_ptr<float>();
  const int64_t threads = at::get_num_threads(), wanted = std::clamp<int64_t>((in + out) / 16, 14, 42);
  const int64_t shares = ((tiles + wanted - 1) / wanted + threads - 1) / threads * threads;
  const int64_t block = (tiles + shares - 1) / shares;
  at::parallel_for(0, (tiles + block - 1) / block, 1, [&](int64_t begin, int64_t end) {
    const int64_t v_stride = block * in + 16, m_stride = block * out + 16;
    const Tensor buffer = with_large_pages(at::empty({81 * (v_stride + m_stride)}, x.options()));
    float* const v = buffer.mutable_data_ptr<float>();
    float* const m = v + 81 * v_stride;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * block, count = std::min(block, tiles - first);
      for (int64_t t = 0; t < count; ++t) input_tile<Up>(pixels, source, factors, first + t, v + t * in, v_stride);
      multiply_points(count, in, panels, v, v_stride, u, in * out, m, m_stride);
      for (int64_t t = 0; t < count; ++t) {
        output_tile<Up>(m + t * out, m_stride, target, first + t, 0, out, nullptr, 1.f, to);
      }
    }
  });
  return y;
}

Tensor winograd_up_weight(const Tensor& weight) {
  const Tensor from = weight.contiguous();
  const int64_t in = weight.size(1), panels = weight.size(0) / PANEL;
  const Tensor result = with_large_pages(at::empty({36, panels, in, PANEL}, weight.options()));
  const float* const w = from.const_data_ptr<float>();
  float* const to = result.mutable_data_ptr<float>();
  at::parallel_for(0, panels * (PANEL / STEP), 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const int64_t panel = n / (PANEL / STEP), first = n % (PANEL / STEP) * STEP;
      transform_weights<true>(w + n * STEP * in * 9, in, [&](int f, int64_t channel) {
        return to + ((f * panels + panel) * in + channel) * PANEL + first;
      });
    }
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(sfe, CPU, m) {
  m.impl("winograd_down", &winograd_down);
  m.impl("winograd_up", &winograd_up);
  m.impl("winograd_up_weight", &winograd_up_weight);
}

}  // namespace sfe
