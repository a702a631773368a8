// The ops on a GPU, for one element type SFE_TYPE: a block's threads run along memory (y of the block: rows), and each
// computes V neighbours. NVRTC compiles this file (nvrtc.py), cuda.py launches its kernels.
#include "vector_cuda.h"

#include "element.h"

namespace sfe {

using Type = SFE_TYPE;
constexpr int VECTOR = 16 / sizeof(Type);

static_assert(sizeof(Args<Type>) == SFE_ARGS_SIZE && sizeof(ActGrad<Type>) == SFE_ACT_GRAD_SIZE,
              "the structures of cuda.py are laid out differently");

template <int V, bool CHANNELS_LAST, int K, int UP, int DOWN>
__device__ __forceinline__ void rows(const Args<Type>& a) {
  const Index rows = a.batch * a.out_h * (CHANNELS_LAST ? 1 : a.channels);
  const Index row_size = a.out_w * (CHANNELS_LAST ? a.channels : 1);
  const Index i = (blockIdx.x * blockDim.x + threadIdx.x) * V;  // within the row
  if (i >= row_size) return;
  const Index step = gridDim.y * blockDim.y;
  for (Index row = blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += step) {
    const int oy = row % a.out_h, map = row / a.out_h;
    if constexpr (CHANNELS_LAST) element<V, true, K, UP, DOWN>(a, map, i % a.channels, oy, i / a.channels);
    else element<V, false, K, UP, DOWN>(a, map / a.channels, map % a.channels, oy, i);
  }
}

template <int V>
__device__ __forceinline__ void each(const ActGrad<Type>& body, Index count) {
  const Index i = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (i < count) body.template at<V>(i);
}

}  // namespace sfe

#define ROWS(NAME, V, CHANNELS_LAST, K, UP, DOWN) \
  extern "C" __global__ void __launch_bounds__(256, 4) NAME(const sfe::Args<sfe::Type> a) { \
    sfe::rows<V, CHANNELS_LAST, K, UP, DOWN>(a); \
  }
// the pointwise op, StyleGAN2's blur, its up- and downsampling by two, and any other filter
#define LAYOUT(NAME, V, CHANNELS_LAST) \
  ROWS(NAME##_pointwise, V, CHANNELS_LAST, 1, 1, 1) \
  ROWS(NAME##_blur, V, CHANNELS_LAST, 4, 1, 1) \
  ROWS(NAME##_up, V, CHANNELS_LAST, 4, 2, 1) \
  ROWS(NAME##_down, V, CHANNELS_LAST, 4, 1, 2) \
  ROWS(NAME##_any, V, CHANNELS_LAST, 0, 0, 0)
LAYOUT(planes, 1, false)
LAYOUT(channels_last, 1, true)
LAYOUT(channels_last_vector, sfe::VECTOR, true)

#define EACH(NAME, V) \
  extern "C" __global__ void __launch_bounds__(256, 4) NAME(const sfe::ActGrad<sfe::Type> body, const int count) { \
    sfe::each<V>(body, count); \
  }
EACH(act_grad, 1)
EACH(act_grad_vector, sfe::VECTOR)
