// What every kernel of yolotrt shares. Compiled by NVRTC, which has no standard headers; the tests compile the same
// files as host C++ and define KERNEL, Half and its conversions themselves.
#pragma once

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef KERNEL
// An IEEE half by its bits, so that cuda_fp16.h and the package that brings it are not needed.
struct Half {
    unsigned short bits;
};

// A kernel takes one structure, laid out in Python by the NumPy dtype of the same name.
#define KERNEL(name, Arguments) extern "C" __global__ void name(const Arguments arguments)

__device__ inline float to_float(Half value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}

__device__ inline Half to_half(float value) {
    Half result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
}
#endif

__device__ inline float to_float(float value) { return value; }

struct alignas(8) FloatPair {
    float first, second;
};

struct alignas(4) HalfPair {
    Half first, second;
};

// Two neighbours in one store; `to` is aligned to both.
__device__ inline void store_pair(float *to, float first, float second) { *(FloatPair *)to = {first, second}; }
__device__ inline void store_pair(Half *to, float first, float second) {
    *(HalfPair *)to = {to_half(first), to_half(second)};
}
