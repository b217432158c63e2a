// Copies with and without a conversion of the dtype, fills with zeros, scaling, and moving averages. Candle has these too, but compiles its
// kernels for one GPU generation only.
#pragma once
#include "block.cuh"

// Copies rows of `columns` elements. Rows start from_row elements apart in `from` and to_row elements apart in `to`. `convert` converts an
// element to the target's type. Grid (any, any): x strides over columns, y over rows.
template <class S, class T, class F>
__device__ __forceinline__ void copy_rows(T* to, const S* from, long long to_first, long long from_first, long long rows, long long columns,
                                          long long to_row, long long from_row, F convert) {
    constexpr int N = 16 / (sizeof(S) > sizeof(T) ? sizeof(S) : sizeof(T));
    to += to_first, from += from_first;
    bool vectors = aligned(to, from) && to_row % (16 / sizeof(T)) == 0 && from_row % (16 / sizeof(S)) == 0;
    for (long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * N; i < columns; i += (long long)gridDim.x * blockDim.x * N)
        for (long long row = blockIdx.y; row < rows; row += gridDim.y) {
            T* target = to + row * to_row + i;
            const S* source = from + row * from_row + i;
            if (vectors && columns - i >= N) {
                Pack<S, N> values = *reinterpret_cast<const Pack<S, N>*>(source);
                Pack<T, N> results;
#pragma unroll
                for (int j = 0; j < N; j++) results.values[j] = convert(values.values[j]);
                *reinterpret_cast<Pack<T, N>*>(target) = results;
            } else {
                for (int j = 0; j < N && i + j < columns; j++) target[j] = convert(source[j]);
            }
        }
}
struct Same {
    template <class V>
    __device__ __forceinline__ V operator()(V x) const {
        return x;
    }
};
struct Round {
    __device__ __forceinline__ bf16 operator()(float x) const { return __float2bfloat16(x); }
};
struct Widen {
    __device__ __forceinline__ float operator()(bf16 x) const { return __bfloat162float(x); }
};
#define COPY(name, S, T, convert)                                                                                                                \
    extern "C" __global__ void __launch_bounds__(1024) name(T* to, const S* from, long long to_first, long long from_first, long long rows,      \
                                                            long long columns, long long to_row, long long from_row) {                           \
        copy_rows(to, from, to_first, from_first, rows, columns, to_row, from_row, convert());                                                   \
    }                                                                                                                                            \
    EXPORT(name)
// Copies bits without interpreting them.
COPY(copy_u8, unsigned char, unsigned char, Same)
COPY(copy_u16, unsigned short, unsigned short, Same)
COPY(copy_u32, unsigned, unsigned, Same)
COPY(copy_f32_to_bf16, float, bf16, Round)
COPY(copy_bf16_to_f32, bf16, float, Widen)
#undef COPY

// Sets `bytes` bytes to 0. Grid: any.
extern "C" __global__ void __launch_bounds__(1024) clear_bytes(unsigned char* target, long long bytes) {
    bool vectors = aligned(target);
    for (long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * 16; i < bytes; i += (long long)gridDim.x * blockDim.x * 16)
        if (vectors && bytes - i >= 16)
            *reinterpret_cast<uint4*>(target + i) = make_uint4(0, 0, 0, 0);
        else
            for (long long j = i; j < bytes && j < i + 16; j++) target[j] = 0;
}
EXPORT(clear_bytes)

// out [n] = factor * x [n]. Grid: any.
extern "C" __global__ void __launch_bounds__(1024) scale_f32(float* out, const float* x, long long n, float factor) {
    bool vectors = aligned(out, x);
    for (long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * 4; i < n; i += (long long)gridDim.x * blockDim.x * 4) {
        float values[4];
        load(values, x + i, n - i, vectors);
#pragma unroll
        for (int j = 0; j < 4; j++) values[j] *= factor;
        store(out + i, values, n - i, vectors);
    }
}
EXPORT(scale_f32)

// average [n] = decay * average + rest * x [n], in f32. Grid: any.
KERNEL(mix, (float* average, const T* x, long long n, float decay, float rest), (average, x, n, decay, rest)) {
    constexpr int N = VECTOR<T>;
    bool vectors = aligned(average, x);
    for (long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * N; i < n; i += (long long)gridDim.x * blockDim.x * N) {
        float values[N], means[N];
        load(values, x + i, n - i, vectors);
        load(means, average + i, n - i, vectors);
#pragma unroll
        for (int j = 0; j < N; j++) means[j] = decay * means[j] + rest * values[j];
        store(average + i, means, n - i, vectors);
    }
}
