// Sums over rows without atomics: each chunk of rows has its own partial sums, and these are added in order, so that a gradient is the same to
// the last bit each time.
#pragma once
#include "block.cuh"

// Writes partials [chunks, n]: row c is the sum over the rows of chunk c. `add(sums, row, column)` adds what a row has for VECTOR<T> columns.
// Grid (any, chunks); a thread has VECTOR<T> columns.
template <class T, class F>
__device__ __forceinline__ void column_sums(float* partials, int rows, int n, int rows_per_chunk, F add) {
    constexpr int N = VECTOR<T>;
    long long first = (long long)blockIdx.y * rows_per_chunk, end = first + rows_per_chunk < rows ? first + rows_per_chunk : rows;
    partials += (long long)blockIdx.y * n;
    bool vectors = aligned(partials);
    for (long long column = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * N; column < n; column += (long long)gridDim.x * blockDim.x * N) {
        float sums[N] = {};
#pragma unroll 4
        for (long long row = first; row < end; row++) add(sums, row, int(column));
        store(partials + column, sums, n - column, vectors);
    }
}

// gradient [n] += the sum of partials [chunks, n] over the chunks. Grid ceil(n / 32); each warp of a block takes every so manieth chunk of the
// block's 32 columns.
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
