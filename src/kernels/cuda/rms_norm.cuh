// RMSNorm (Zhang and Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * weight, row by row.
#pragma once
#include "rows.cuh"

// x [rows, width], weight [width] to y [rows, width] and inverse_rms [rows]; y may be x. Grid: rows.
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

// dx [rows, width] += the gradient of x: with r the inverse, n = x r and g = dy weight, it is r (g - n mean(g n)). Grid: rows.
KERNEL(rms_norm_backward, (T* dx, const T* dy, const T* x, const T* weight, const float* inverse_rms, int width),
       (dx, dy, x, weight, inverse_rms, width)) {
    constexpr int N = VECTOR<T>;
    long long at = (long long)blockIdx.x * width;
    dx += at, dy += at, x += at;
    bool vectors = aligned(dx, dy, x, weight);
    float inverse = inverse_rms[blockIdx.x], sum = 0;
    for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
        float values[N], gradients[N], weights[N];
        load(values, x + i, width - i, vectors);
        load(gradients, dy + i, width - i, vectors);
        load(weights, weight + i, width - i, vectors);
#pragma unroll
        for (int j = 0; j < N; j++) sum += gradients[j] * weights[j] * values[j];
    }
    float mean = block_sum(sum) * inverse / width;
    for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
        float values[N], gradients[N], weights[N], totals[N];
        load(values, x + i, width - i, vectors);
        load(gradients, dy + i, width - i, vectors);
        load(weights, weight + i, width - i, vectors);
        load(totals, dx + i, width - i, vectors);
#pragma unroll
        for (int j = 0; j < N; j++) totals[j] += inverse * (gradients[j] * weights[j] - values[j] * inverse * mean);
        store(dx + i, totals, width - i, vectors);
    }
}

// The weight's gradient, sum over the rows of dy x r, as partials [chunks, width] that add_partials adds up. Grid (any, chunks).
KERNEL(rms_norm_weight_partials, (float* partials, const T* dy, const T* x, const float* inverse_rms, int rows, int width, int rows_per_chunk),
       (partials, dy, x, inverse_rms, rows, width, rows_per_chunk)) {
    constexpr int N = VECTOR<T>;
    bool vectors = width % N == 0 && aligned(dy, x);
    column_sums<T>(partials, rows, width, rows_per_chunk, [&](float(&sums)[N], long long row, int column) {
        float values[N], gradients[N], inverse = inverse_rms[row];
        load(values, x + row * width + column, width - column, vectors);
        load(gradients, dy + row * width + column, width - column, vectors);
#pragma unroll
        for (int j = 0; j < N; j++) sums[j] += gradients[j] * values[j] * inverse;
    });
}
