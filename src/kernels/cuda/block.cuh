// Shared by all kernels: the two element types, reductions, and the parts that differ between the GPU and the emulator.
//
// Kernels are templates over the element type T (float or bf16) and compute in f32. The host launches a kernel by its C name, which EXPORT
// registers with the emulator.
#pragma once

#ifdef EMULATED
#define UNROLL
#define ONE_BY_ONE
#define EXPORT(name) static int emulated_##name = emulator::add(#name, name);
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(((uintptr_t)emulator::block->shared.data() + 15) / 16 * 16)
#else
#include <cuda_bf16.h>
#include <cstdint>
#define UNROLL _Pragma("unroll")
#define ONE_BY_ONE _Pragma("unroll 1")  // saves registers
#define EXPORT(name)
#define DYNAMIC_SHARED(type, name)                       \
    extern __shared__ __align__(16) unsigned char raw[]; \
    type* name = reinterpret_cast<type*>(raw)
#endif

using bf16 = __nv_bfloat16;

constexpr unsigned ALL = 0xffffffffu;
constexpr int WARP_SIZE = 32;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
    return __float2bfloat16(x);
}

// Defines the kernels name_f32 and name_bf16. The body that follows is a template over T. Blocks have whole warps and at most 1,024
// threads. `arguments` repeats the parameters' names.
#define KERNEL_OF(name, suffix, type, parameters, arguments)                    \
    namespace of_##suffix {                                                     \
    using T = type;                                                             \
    extern "C" __global__ void __launch_bounds__(1024) name##_##suffix parameters { ::name<T> arguments; } \
    EXPORT(name##_##suffix)                                                     \
    }
#define KERNEL(name, parameters, arguments)                  \
    template <class T>                                       \
    __device__ __forceinline__ void name parameters;         \
    KERNEL_OF(name, f32, float, parameters, arguments)       \
    KERNEL_OF(name, bf16, ::bf16, parameters, arguments)     \
    template <class T>                                       \
    __device__ __forceinline__ void name parameters

// Number of elements of T in 16 bytes, the widest load.
template <class T>
constexpr int VECTOR = 16 / sizeof(T);

// N adjacent elements, which are loaded and stored 16 bytes at a time.
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
    T values[N];
};

// Returns whether all these addresses are aligned to 16 bytes, as vector loads require.
template <class... P>
__device__ __forceinline__ bool aligned(const P*... at) {
    return ((reinterpret_cast<uintptr_t>(at) | ...) & 15) == 0;
}

// Loads N elements from `at`. Only `left` of them exist; the others become 0. Uses vector loads only if `vectors`, which requires aligned
// addresses.
template <int N, class T>
__device__ __forceinline__ void load(float (&x)[N], const T* at, long long left, bool vectors) {
    if (vectors && left >= N) {
        Pack<T, N> pack = *reinterpret_cast<const Pack<T, N>*>(at);
#pragma unroll
        for (int j = 0; j < N; j++) x[j] = to_float(pack.values[j]);
    } else {
#pragma unroll
        for (int j = 0; j < N; j++) x[j] = j < left ? to_float(at[j]) : 0.0f;
    }
}
template <int N, class T>
__device__ __forceinline__ void store(T* at, const float (&x)[N], long long left, bool vectors) {
    if (vectors && left >= N) {
        Pack<T, N> pack;
#pragma unroll
        for (int j = 0; j < N; j++) pack.values[j] = from_float<T>(x[j]);
        *reinterpret_cast<Pack<T, N>*>(at) = pack;
    } else {
#pragma unroll
        for (int j = 0; j < N; j++)
            if (j < left) at[j] = from_float<T>(x[j]);
    }
}

struct Sum {
    template <class V>
    __device__ V operator()(V a, V b) const {
        return a + b;
    }
};
struct Largest {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct Least {
    __device__ int operator()(int a, int b) const { return a < b ? a : b; }
};

template <class V, class F>
__device__ __forceinline__ V warp_reduce(V x, F combine) {
    for (int mask = 16; mask; mask /= 2) x = combine(x, __shfl_xor_sync(ALL, x, mask));
    return x;
}
template <class V>
__device__ __forceinline__ V warp_sum(V x) {
    return warp_reduce(x, Sum());
}
__device__ __forceinline__ float warp_max(float x) { return warp_reduce(x, Largest()); }

// Combines one value per thread over a block of whole warps (at most 1,024 threads), always in the same order. Every thread gets the
// result. Ends with a barrier.
template <class V, class F>
__device__ __forceinline__ V block_reduce(V x, F combine) {
    __shared__ V values[32];
    x = warp_reduce(x, combine);
    if (threadIdx.x % WARP_SIZE == 0) values[threadIdx.x / WARP_SIZE] = x;
    __syncthreads();
    V total = values[0];
    for (unsigned warp = 1; warp < blockDim.x / WARP_SIZE; warp++) total = combine(total, values[warp]);
    __syncthreads();
    return total;
}
template <class V>
__device__ __forceinline__ V block_sum(V x) {
    return block_reduce(x, Sum());
}
__device__ __forceinline__ float block_max(float x) { return block_reduce(x, Largest()); }
