// The ops on a GPU: a block's threads lie along memory (y of the block: rows), one element each.
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>

#include "element.h"

namespace sfe {

template <bool CHANNELS_LAST, int K, int UP, int DOWN, typename T>
__global__ void rows_kernel(const Args<T> a, int64_t rows, int64_t row_size) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;  // within the row
  if (i >= row_size) return;
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.y;
  for (int64_t row = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; row < rows; row += step) {
    const int oy = row % a.out_h, map = row / a.out_h;
    if constexpr (CHANNELS_LAST) element<1, true, K, UP, DOWN>(a, map, i % a.channels, oy, i / a.channels);
    else element<1, false, K, UP, DOWN>(a, map / a.channels, map % a.channels, oy, i);
  }
}

template <bool CHANNELS_LAST, int K, int UP, int DOWN, typename T>
void for_each_row(const Args<T>& a) {
  const int64_t rows = static_cast<int64_t>(a.batch) * a.out_h * (CHANNELS_LAST ? 1 : a.channels);
  const int64_t row_size = static_cast<int64_t>(a.out_w) * (CHANNELS_LAST ? a.channels : 1);
  unsigned along = 256;  // threads along a row, as many as a short row can use
  while (along > 1 && along / 2 >= row_size) along /= 2;
  const dim3 block(along, 256 / along);
  const dim3 grid((row_size + along - 1) / along, std::min<int64_t>((rows + block.y - 1) / block.y, 65535));
  rows_kernel<CHANNELS_LAST, K, UP, DOWN><<<grid, block, 0, c10::cuda::getCurrentCUDAStream()>>>(a, rows, row_size);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

template <typename Body>
__global__ void each_kernel(int64_t count, const Body body) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) body.template at<1>(i);
}

template <typename Body>
void for_each(int64_t count, const Body& body) {
  if (count == 0) return;
  each_kernel<<<(count + 255) / 256, 256, 0, c10::cuda::getCurrentCUDAStream()>>>(count, body);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace sfe

#define SFE_DEVICE CUDA
#include "ops.h"
