// Gathers and scatters rows by index (embedding look-up, rows for the head, and their gradients), rotary position embedding, row sums, and
// plain sums.
#pragma once
#include "block.cuh"

// Copies the rows `indices [rows]` of table [_, width] to out [rows, width]. Grid: rows.
KERNEL(gather_rows, (T* out, const T* table, const int* indices, int width), (out, table, indices, width)) {
    constexpr int N = VECTOR<T>;
    out += (long long)blockIdx.x * width;
    table += (long long)indices[blockIdx.x] * width;
    int whole = aligned(out, table) ? width / N * N : 0;
    for (int i = threadIdx.x * N; i < whole; i += blockDim.x * N)
        *reinterpret_cast<Pack<T, N>*>(out + i) = *reinterpret_cast<const Pack<T, N>*>(table + i);
    for (int i = whole + threadIdx.x; i < width; i += blockDim.x) out[i] = table[i];
}

// Adds to row targets[i] of target the sum of rows[order[j]] for offsets[i] <= j < offsets[i + 1], in that order and in f32. All targets
// differ, so no two blocks write the same row. The host fixes the order, so sums are reproducible. Grid: targets.
template <class S, class T>
__device__ __forceinline__ void scatter_add(S* target, const T* rows, const int* targets, const int* offsets, const int* order, int width) {
    constexpr int N = VECTOR<T>;
    target += (long long)targets[blockIdx.x] * width;
    int first = offsets[blockIdx.x], end = offsets[blockIdx.x + 1];
    bool own = aligned(target), vectors = width % N == 0 && aligned(rows);
    for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
        float sums[N] = {}, totals[N];
#pragma unroll 4
        for (int j = first; j < end; j++) {
            float values[N];
            load(values, rows + (long long)order[j] * width + i, width - i, vectors);
#pragma unroll
            for (int k = 0; k < N; k++) sums[k] += values[k];
        }
        load(totals, target + i, width - i, own);
#pragma unroll
        for (int k = 0; k < N; k++) totals[k] += sums[k];
        store(target + i, totals, width - i, own);
    }
}
// The target has the rows' type.
KERNEL(scatter_add_rows, (T* target, const T* rows, const int* targets, const int* offsets, const int* order, int width),
       (target, rows, targets, offsets, order, width)) {
    scatter_add(target, rows, targets, offsets, order, width);
}
// The rows are bf16 and the target is f32.
extern "C" __global__ void __launch_bounds__(1024)
    scatter_add_rows_bf16_to_f32(float* target, const bf16* rows, const int* targets, const int* offsets, const int* order, int width) {
    scatter_add(target, rows, targets, offsets, order, width);
}
EXPORT(scatter_add_rows_bf16_to_f32)

// Rotary position embedding (Su et al. 2021) in the half-split form: element i of a head is rotated with element i + half.
//
// Rotates N pairs. Each product is rounded before the sum, as on the CPU. Two kernels call this: if the compiler used fused multiply-adds
// in only one of them, sampler and trainer would differ in the last bits.
template <int N>
__device__ __forceinline__ void turn(float (&x)[N], float (&y)[N], const float (&c)[N], const float (&s)[N], float sign) {
#pragma unroll
    for (int j = 0; j < N; j++) {
        float sine = s[j] * sign, turned = __fsub_rn(__fmul_rn(x[j], c[j]), __fmul_rn(y[j], sine));
        y[j] = __fadd_rn(__fmul_rn(y[j], c[j]), __fmul_rn(x[j], sine));
        x[j] = turned;
    }
}

// Rotates the first `heads` heads, each of 2 half elements, of every row of qkv [t, row] in place. cos and sin [p, half] are looked up at
// positions [t]. A sign of -1 rotates back, which is the gradient. Grid: t; a thread processes VECTOR<T> pairs of a head at a time.
KERNEL(rotate, (T* qkv, const float* cos, const float* sin, const int* positions, int row, int heads, int half, float sign),
       (qkv, cos, sin, positions, row, heads, half, sign)) {
    constexpr int N = VECTOR<T>;
    qkv += (long long)blockIdx.x * row;
    long long at = (long long)positions[blockIdx.x] * half;
    cos += at, sin += at;
    bool vectors = half % N == 0 && aligned(qkv, cos, sin);
    int pieces = (half + N - 1) / N;
    for (int piece = threadIdx.x; piece < heads * pieces; piece += blockDim.x) {
        int i = piece % pieces * N;
        T* first = qkv + piece / pieces * 2 * half + i;
        T* second = first + half;
        float x[N], y[N], c[N], s[N];
        load(x, first, half - i, vectors);
        load(y, second, half - i, vectors);
        load(c, cos + i, half - i, vectors);
        load(s, sin + i, half - i, vectors);
        turn(x, y, c, s, sign);
        store(first, x, half - i, vectors);
        store(second, y, half - i, vectors);
    }
}

// Row sums do not use atomics: each chunk of rows has separate partial sums, which are then added in order. Gradients are therefore
// reproducible bit for bit.

// The gradient of `rotate` and of the bias that is added before it. Rotates the first `turned` of the `heads` heads of every row of d_qkv
// [rows, heads 2 half] back in place, and writes the row sums as partials [chunks, heads 2 half], which add_partials adds up. Grid (any,
// chunks); a thread processes 4 pairs of a head at a time, because more would need too many registers.
KERNEL(rotate_back,
       (T* d_qkv, float* partials, const float* cos, const float* sin, const int* positions, int rows, int turned, int heads, int half,
        int rows_per_chunk),
       (d_qkv, partials, cos, sin, positions, rows, turned, heads, half, rows_per_chunk)) {
    constexpr int N = 4;
    long long first = (long long)blockIdx.y * rows_per_chunk, end = first + rows_per_chunk < rows ? first + rows_per_chunk : rows;
    int width = heads * 2 * half, pieces = (half + N - 1) / N;
    partials += (long long)blockIdx.y * width;
    bool vectors = half % N == 0 && aligned(d_qkv, cos, sin, partials);
    for (int piece = blockIdx.x * blockDim.x + threadIdx.x; piece < heads * pieces; piece += gridDim.x * blockDim.x) {
        int head = piece / pieces, i = piece % pieces * N, column = head * 2 * half + i;
        float of_first[N] = {}, of_second[N] = {};
        ONE_BY_ONE
        for (long long row = first; row < end; row++) {
            T* at = d_qkv + row * width + column;
            float x[N], y[N];
            load(x, at, half - i, vectors);
            load(y, at + half, half - i, vectors);
            if (head < turned) {
                long long angle = (long long)positions[row] * half + i;
                float c[N], s[N];
                load(c, cos + angle, half - i, vectors);
                load(s, sin + angle, half - i, vectors);
#pragma unroll
                for (int j = 0; j < N; j++) {
                    float back = x[j] * c[j] + y[j] * s[j];
                    y[j] = y[j] * c[j] - x[j] * s[j];
                    x[j] = back;
                }
                store(at, x, half - i, vectors);
                store(at + half, y, half - i, vectors);
            }
#pragma unroll
            for (int j = 0; j < N; j++) of_first[j] += x[j], of_second[j] += y[j];
        }
        store(partials + column, of_first, half - i, vectors);
        store(partials + column + half, of_second, half - i, vectors);
    }
}

// gradient [n] += the sum of partials [chunks, n] over the chunks. Grid ceil(n / 32). A block computes 32 columns, and its warps
// process the chunks in turn.
extern "C" __global__ void __launch_bounds__(1024) add_partials(float* gradient, const float* partials, int chunks, int n) {
    __shared__ float sums[32][32];
    int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE, warps = blockDim.x / WARP_SIZE;
    int column = blockIdx.x * WARP_SIZE + lane;
    float sum = 0;
    if (column < n)
#pragma unroll 4
        for (int chunk = warp; chunk < chunks; chunk += warps) sum += partials[(long long)chunk * n + column];
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && column < n) {
        for (int other = 1; other < warps; other++) sum += sums[other][lane];
        gradient[column] += sum;
    }
}
EXPORT(add_partials)

// Adds source [n] to target [n]. Grid: any.
extern "C" __global__ void __launch_bounds__(1024) add_f32(float* target, const float* source, long long n) {
    constexpr int N = VECTOR<float>;
    bool vectors = aligned(target, source);
    for (long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * N; i < n; i += (long long)gridDim.x * blockDim.x * N) {
        float values[N], totals[N];
        load(values, source + i, n - i, vectors);
        load(totals, target + i, n - i, vectors);
#pragma unroll
        for (int j = 0; j < N; j++) values[j] += totals[j];
        store(target + i, values, n - i, vectors);
    }
}
EXPORT(add_f32)
