// Stands for the ops' half.h, whose conversions are PTX.
#pragma once

namespace sfe {

inline float half_to_float(unsigned short bits) { return __builtin_bit_cast(_Float16, bits); }
inline unsigned short float_to_half(float value) {
  return __builtin_bit_cast(unsigned short, static_cast<_Float16>(value));
}

}  // namespace sfe
