// RMSNorm (Zhang and Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * weight, row by row.
#pragma once
#include "rows.cuh"

// Computes y [rows, width] and inverse_rms [rows] from x [rows, width] and weight [width]. y may be x. Grid: rows.
KERNEL(rms_norm_forward, (T* y, float* inverse_rms, const T* x, const T* weight, int width, float eps), (y, inverse_rms, x, weight, width, eps)) {
    constexpr int N = VECTOR<T>;
    x += (long long)blockIdx.x * width;
    y += (long long)blockIdx.x * width;
    bool vectors = aligned(x, y, weight);
    float squares = 0;
    for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
        float values[N];
        load(values, x + i, width - i, vectors);
#pragma unroll
        for (int j = 0; j < N; j++) squares += values[j] * values[j];
    }
    float inverse = 1.0f / sqrtf(block_sum(squares) / width + eps);
    if (threadIdx.x == 0) inverse_rms[blockIdx.x] = inverse;
    for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
        float values[N], weights[N];
        load(values, x + i, width - i, vectors);
        load(weights, weight + i, width - i, vectors);
#pragma unroll
        for (int j = 0; j < N; j++) values[j] = values[j] * inverse * weights[j];
        store(y + i, values, width - i, vectors);
    }
}

// Adds the gradient of x to dx [rows, width]. With r the inverse RMS, n = x r and g = dy weight, it is r (g - n mean(g n)). The gradient of
// the weight is the sum of dy n over the rows; this writes the sums of each chunk to partials [chunks, width], which add_partials adds up.
// One pass over dy and x computes both gradients; the second read of a row hits the cache. Grid: chunks. Shared memory: one sum per column,
// which only one thread accesses.
KERNEL(rms_norm_backward,
       (T* dx, float* partials, const T* dy, const T* x, const T* weight, const float* inverse_rms, int rows, int width, int rows_per_chunk),
       (dx, partials, dy, x, weight, inverse_rms, rows, width, rows_per_chunk)) {
    constexpr int N = VECTOR<T>;
    DYNAMIC_SHARED(float, sums);
    long long first = (long long)blockIdx.x * rows_per_chunk, end = first + rows_per_chunk < rows ? first + rows_per_chunk : rows;
    partials += (long long)blockIdx.x * width;
    bool vectors = width % N == 0 && aligned(dx, dy, x, weight, partials);
    const float zeros[N] = {};
    for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) store(sums + i, zeros, width - i, true);
    for (long long row = first; row < end; row++) {
        long long at = row * width;
        float inverse = inverse_rms[row], sum = 0;
        for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
            float values[N], gradients[N], weights[N], of_columns[N];
            load(values, x + at + i, width - i, vectors);
            load(gradients, dy + at + i, width - i, vectors);
            load(weights, weight + i, width - i, vectors);
            load(of_columns, sums + i, width - i, true);
#pragma unroll
            for (int j = 0; j < N; j++) {
                float product = gradients[j] * values[j];
                sum += product * weights[j];
                of_columns[j] += product * inverse;
            }
            store(sums + i, of_columns, width - i, true);
        }
        float mean = block_sum(sum) * inverse / width;
        for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
            float values[N], gradients[N], weights[N], totals[N];
            load(values, x + at + i, width - i, vectors);
            load(gradients, dy + at + i, width - i, vectors);
            load(weights, weight + i, width - i, vectors);
            load(totals, dx + at + i, width - i, vectors);
#pragma unroll
            for (int j = 0; j < N; j++) totals[j] += inverse * (gradients[j] * weights[j] - values[j] * inverse * mean);
            store(dx + at + i, totals, width - i, vectors);
        }
    }
    for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
        float of_columns[N];
        load(of_columns, sums + i, width - i, true);
        store(partials + i, of_columns, width - i, vectors);
    }
}
