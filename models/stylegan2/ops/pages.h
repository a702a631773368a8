// Large pages for large results. The kernel provides memory as large as a 1024 px activation newly each time, and
// mapping it in pages of 4 KiB takes longer than the ops that use it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace sfe {

// Asks for large pages where t is large; returns t. The kernel may decline, and nothing depends on it.
inline at::Tensor with_large_pages(const at::Tensor& t) {
#ifdef __linux__
  constexpr uintptr_t PAGE = 2 << 20;
  if (t.is_cpu()) {
    const auto data = reinterpret_cast<uintptr_t>(t.data_ptr());
    const uintptr_t begin = (data + PAGE - 1) / PAGE * PAGE, end = (data + t.nbytes()) / PAGE * PAGE;
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
  }
#endif
  return t;
}

}  // namespace sfe
