// The log-probability head: log-probability and entropy of rows of logits, their gradient, and sampling masks.
//
// With z = logits / temperature, p = softmax(z), and L a function of log p(target) and of the entropy H:
// dL/dlogits = (1 / temperature) [a (onehot - p) - b p (log p + H)] with a = dL/dlogp and b = dL/dH.
//
// A logit of minus infinity marks a masked token, whose probability and contribution to the entropy are 0.
#pragma once
#include "block.cuh"

// Sums over some logits z of a row, relative to their maximum: `total` of e = exp((z - max) inverse) and `weighted` of e (z - max) inverse.
// The maximum is subtracted before scaling, so that large logits lose no precision.
struct RowSums {
    float max = -INFINITY, total = 0, weighted = 0;

    // Converts the sums to a new maximum, which must be at least as large.
    __device__ __forceinline__ void raise(float to, float inverse) {
        if (max != -INFINITY) {
            float shift = (max - to) * inverse, scale = expf(shift);
            weighted = scale == 0 ? 0 : (weighted + total * shift) * scale;
            total *= scale;
        }
        max = to;
    }
    template <int N>
    __device__ __forceinline__ void add(const float (&z)[N], float inverse) {
        float largest = max;
#pragma unroll
        for (int j = 0; j < N; j++) largest = fmaxf(largest, z[j]);
        if (largest > max) raise(largest, inverse);
#pragma unroll
        for (int j = 0; j < N; j++)
            if (z[j] != -INFINITY) {
                float shifted = (z[j] - max) * inverse, e = expf(shifted);
                total += e;
                if (e != 0) weighted += e * shifted;
            }
    }
};

// Computes scores [rows, 3] of logits [rows, width] for targets [rows]: the log-probability of the target, the entropy, and the log-sum-exp
// of the scaled logits. Makes one pass over a row and converts the sums when a larger logit appears (Milakov and Gimelshein 2018). Grid:
// rows.
extern "C" __global__ void __launch_bounds__(1024)
    head_forward(float* scores, const float* logits, const int* targets, int width, float inverse_temperature) {
    logits += (long long)blockIdx.x * width;
    bool vectors = aligned(logits);
    RowSums own;
    for (int i = threadIdx.x * 4; i < width; i += blockDim.x * 4) {
        float z[4];
        load(z, logits + i, width - i, vectors);
#pragma unroll
        for (int j = 1; j < 4; j++)
            if (i + j >= width) z[j] = -INFINITY;
        own.add(z, inverse_temperature);
    }
    float max = block_max(own.max);
    own.raise(max, inverse_temperature);
    float total = block_sum(own.total), weighted = block_sum(own.weighted);
    if (threadIdx.x == 0) {
        float log_total = logf(total);
        scores += (long long)blockIdx.x * 3;
        scores[0] = (logits[targets[blockIdx.x]] - max) * inverse_temperature - log_total;
        scores[1] = log_total - weighted / total;
        scores[2] = max * inverse_temperature + log_total;
    }
}
EXPORT(head_forward)

// Computes the gradient of logits [rows, width], which may overwrite the logits in f32. scores are those of head_forward; d_logprob and
// d_entropy [rows] are a and b. Grid: rows.
KERNEL(head_backward,
       (T* gradient, const float* logits, const int* targets, const float* scores, const float* d_logprob, const float* d_entropy, int width,
        float inverse_temperature),
       (gradient, logits, targets, scores, d_logprob, d_entropy, width, inverse_temperature)) {
    constexpr int N = 4;
    logits += (long long)blockIdx.x * width;
    gradient += (long long)blockIdx.x * width;
    bool vectors = aligned(logits, gradient);
    int target = targets[blockIdx.x];
    scores += blockIdx.x * 3LL;
    float entropy = scores[1], a = d_logprob[blockIdx.x] * inverse_temperature, b = d_entropy[blockIdx.x] * inverse_temperature;
    // log p can be computed relative to the target's logit and log p, or from the log-sum-exp. Of the target's log p and the log-sum-exp,
    // the one with the smaller magnitude has the smaller error.
    bool by_target = fabsf(scores[0]) < fabsf(scores[2]);
    float origin = by_target ? logits[target] : 0.0f, log_origin = by_target ? scores[0] : -scores[2];
    __syncthreads();  // all threads have read the target's logit, which one of them overwrites below
    for (int i = threadIdx.x * N; i < width; i += blockDim.x * N) {
        float z[N];
        load(z, logits + i, width - i, vectors);
#pragma unroll
        for (int j = 0; j < N; j++) {
            float log_p = fmaf(z[j] - origin, inverse_temperature, log_origin), p = expf(log_p);
            float g = p == 0 ? 0.0f : -p * fmaf(b, log_p + entropy, a);
            z[j] = i + j == target ? g + a : g;
        }
        store(gradient + i, z, width - i, vectors);
    }
}

// Sets the logits [rows, width] of tokens outside each row's sampling mask to `masked`. The mask of row r consists of the runs from
// offsets[r] to offsets[r + 1]. Each run of runs [n, 2] is a range of ids [begin, end); the runs of a row are ascending. A row without runs
// is not masked. Grid: rows.
extern "C" __global__ void __launch_bounds__(1024) keep_tokens(float* logits, const int* offsets, const int* runs, int width, float masked) {
    logits += (long long)blockIdx.x * width;
    int first = offsets[blockIdx.x], count = offsets[blockIdx.x + 1] - first;
    if (count == 0) return;
    runs += 2LL * first;
    for (int token = threadIdx.x; token < width; token += blockDim.x) {
        // The first run that ends after the token.
        int low = 0, high = count;
        while (low < high) {
            int middle = (low + high) / 2;
            if (runs[2 * middle + 1] > token)
                high = middle;
            else
                low = middle + 1;
        }
        if (low == count || runs[2 * low] > token) logits[token] = masked;
    }
}
EXPORT(keep_tokens)
