// Samples a token from a row of logits with one uniform number: applies the filters and inverts the cumulative distribution in token order.
//
// Nothing is sorted. A threshold weight and a token id describe the sampling mask: it has all tokens above the threshold, and those at the
// threshold up to that id. The threshold is found by a search over its bits, whose order is that of non-negative floats. Weights are
// relative to the most likely token's and are recomputed in each pass over the row. Their sums are in f64, so that even the smallest weight
// counts.
#pragma once
#include "head.cuh"

// A row of logits. Only tokens below `limit` may be sampled.
struct SampledRow {
    const float* logits;
    int limit;
    float max, inverse_temperature;
    bool vectors;

    // Computes the weights of four tokens from `token` on. Those from `end` on are not valid.
    __device__ __forceinline__ void weights(float (&w)[4], int token, int end) const {
        load(w, logits + token, end - token, vectors);
#pragma unroll
        for (int j = 0; j < 4; j++) w[j] = expf((w[j] - max) * inverse_temperature);
    }
};

// A sampling mask: the tokens above the threshold weight, and those at the threshold up to `last`.
struct SamplingMask {
    unsigned threshold = 0;
    int last = 0x7fffffff;

    __device__ __forceinline__ bool operator()(int token, float weight) const {
        unsigned bits = __float_as_uint(weight);
        return bits > threshold || (bits == threshold && token <= last);
    }
};

// Returns the sum of amount(token, weight) over groups of four tokens, which start `step` tokens apart from `first` on and end at `end`.
template <class F>
__device__ __forceinline__ double amounts(const SampledRow& row, int first, int step, int end, F amount) {
    double sum = 0;
    for (int token = first; token < end; token += step) {
        float w[4];
        row.weights(w, token, end);
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (token + j < end) sum += amount(token + j, w[j]);
    }
    return sum;
}

// Returns, to all threads, the token at which the running sum of amounts (none negative) first exceeds target(total). If rounding prevents
// that, it is the last token with a positive amount. Its amount is 0 only if all amounts are 0. All threads of the block must call this,
// and the block needs at least two warps.
template <class F, class G>
__device__ __forceinline__ int find_token(const SampledRow& row, F amount, G target) {
    __shared__ double sums[32];
    constexpr int WARP_TOKENS = 4 * WARP_SIZE;
    int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE, warps = blockDim.x / WARP_SIZE;
    int begin = 0, end = row.limit;
    double left = 0;
    // Each warp sums its share of the range. The share that contains the target becomes the next range.
    for (bool first = true; first || end - begin > WARP_TOKENS; first = false) {
        int share = ((end - begin + warps - 1) / warps + WARP_TOKENS - 1) / WARP_TOKENS * WARP_TOKENS;
        int from = begin + warp * share, to = min(from + share, end);
        double sum = warp_sum(amounts(row, from + 4 * lane, WARP_TOKENS, to, amount));
        if (lane == 0) sums[warp] = sum;
        __syncthreads();
        if (first) {
            double total = 0;
            for (int i = 0; i < warps; i++) total += sums[i];
            left = target(total);
        }
        int chosen = 0;
        double before = 0, chosen_before = 0;
        for (int i = 0; i < warps; i++) {
            if (!(sums[i] > 0)) continue;
            chosen = i, chosen_before = before;
            before += sums[i];
            if (left < before) break;
        }
        left -= chosen_before;
        begin += chosen * share;
        end = min(begin + share, end);
        __syncthreads();
    }
    // Every warp finds the same token. Each lane has four tokens, and a running sum over the lanes selects one lane.
    int token = begin + 4 * lane;
    double sum = amounts(row, token, WARP_TOKENS, end, amount), reached = sum;
    for (int by = 1; by < WARP_SIZE; by *= 2) {
        double other = __shfl_up_sync(ALL, reached, by);
        if (lane >= by) reached += other;
    }
    unsigned positive = __ballot_sync(ALL, sum > 0), beyond = __ballot_sync(ALL, sum > 0 && left < reached);
    int holder = beyond ? __ffs(beyond) - 1 : positive ? 31 - __clz(positive) : 0;
    left -= reached - sum;
    int found = begin;
    if (lane == holder && positive) {
        float w[4];
        row.weights(w, token, end);
        double before = 0;
        for (int j = 0; j < 4 && token + j < end; j++) {
            double own = amount(token + j, w[j]);
            if (!(own > 0)) continue;
            found = token + j;
            before += own;
            if (left < before) break;
        }
    }
    return __shfl_sync(ALL, found, holder);
}

// Reduces the mask to its most likely tokens that together reach `goal`, as a count or a sum of weights. Of equally likely tokens, lower
// ids come first. At least one token remains.
template <bool COUNTED>
__device__ __forceinline__ void keep_likeliest(const SampledRow& row, SamplingMask& mask, double goal) {
    constexpr int PARTS = 8;
    // The largest threshold that reaches the goal is at least `low` and less than `high`. The tokens with weights from `high` on sum to
    // `above`. Each pass divides the interval into PARTS.
    unsigned low = mask.threshold, high = __float_as_uint(1.0f) + 1;
    double above = 0;
    while (high - low > 1) {
        unsigned step = (high - low + PARTS - 1) / PARTS;
        double sums[PARTS] = {};
        for (int token = threadIdx.x * 4; token < row.limit; token += blockDim.x * 4) {
            float w[4];
            row.weights(w, token, row.limit);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                unsigned bits = __float_as_uint(w[j]);
                if (token + j >= row.limit || bits < low || bits >= high || !mask(token + j, w[j])) continue;
                double own = COUNTED ? 1 : w[j];
#pragma unroll
                for (int part = 1; part < PARTS; part++)
                    if (bits >= low + part * step) sums[part] += own;
            }
        }
        unsigned new_low = low, new_high = high;
        double new_above = above;
#pragma unroll
        for (int part = 1; part < PARTS; part++) {
            unsigned at = low + part * step;
            double reached = above + block_sum(sums[part]);
            if (at >= high) continue;
            if (reached >= goal)
                new_low = at;
            else if (at < new_high)
                new_high = at, new_above = reached;
        }
        low = new_low, high = new_high, above = new_above;
    }
    // The number of tokens needed at the threshold weight. find_token finds the last of them.
    double weight = COUNTED ? 1 : __uint_as_float(low), equals = ceil((goal - above) / weight);
    SamplingMask before = mask;
    auto equal = [=](int token, float w) { return double(__float_as_uint(w) == low && before(token, w)); };
    mask.last = find_token(row, equal, [=](double) { return equals > 1 ? equals - 1 : 0; });
    mask.threshold = low;
}

// Returns the mask of the filters: first min_p, then top_k, then top_p on the remaining tokens. A filter is off if
// min_p = 0, top_k = 0 or top_p = 1, respectively.
__device__ __forceinline__ SamplingMask filtered(const SampledRow& row, int top_k, float top_p, float min_p) {
    SamplingMask mask;
    if (min_p > 0) mask.threshold = __float_as_uint(fminf(min_p, 1.0f));
    if (top_k > 0 && top_k < row.limit) keep_likeliest<true>(row, mask, top_k);
    if (top_p < 1) {
        auto own = [&](int token, float weight) { return mask(token, weight) ? double(weight) : 0.0; };
        double left = block_sum(amounts(row, threadIdx.x * 4, blockDim.x * 4, row.limit, own));
        keep_likeliest<false>(row, mask, top_p * left);
    }
    return mask;
}

// Samples tokens [n] from logits [n, width] (not scaled), and writes their log-probabilities [n] at this temperature, before filters and
// over the whole width. Tokens from `limit` on are never sampled. uniforms [n] are numbers in [0, 1). If the inverse temperature is 0 or
// less, selects the most likely token (the first in a tie), with its log-probability at temperature 1. Grid: n; blocks of at least two
// warps.
extern "C" __global__ void __launch_bounds__(1024)
    sample_tokens(int* tokens, float* logprobs, const float* logits, const float* uniforms, int width, int limit, float inverse_temperature, int top_k, float top_p,
                  float min_p) {
    logits += (long long)blockIdx.x * width;
    bool greedy = !(inverse_temperature > 0);
    SampledRow row = {logits, min(limit, width), -INFINITY, greedy ? 1 : inverse_temperature, aligned(logits)};

    // Sums as head_forward does, with the same number of threads, so the log-probability is bit-identical to the trainer's.
    RowSums sums;
    int likeliest = 0x7fffffff;
    for (int i = threadIdx.x * 4; i < width; i += blockDim.x * 4) {
        float z[4];
        load(z, logits + i, width - i, row.vectors);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (i + j >= width) z[j] = -INFINITY;
            if (i + j < row.limit && z[j] > row.max) row.max = z[j], likeliest = i + j;
        }
        sums.add(z, row.inverse_temperature);
    }
    float own_max = row.max, largest = block_max(sums.max);
    row.max = block_max(row.max);
    sums.raise(largest, row.inverse_temperature);
    float log_total = logf(block_sum(sums.total));

    auto all = [](int, float weight) { return double(weight); };
    int token;
    if (greedy) {
        token = block_reduce(own_max == row.max ? likeliest : 0x7fffffff, Least());
        if (token >= row.limit) token = 0;
    } else {
        float uniform = uniforms[blockIdx.x];
        if (top_k <= 0 && top_p >= 1 && min_p <= 0) {
            token = find_token(row, all, [=](double sum) { return sum * uniform; });
        } else {
            SamplingMask mask = filtered(row, top_k, top_p, min_p);
            auto own = [&](int token, float weight) { return mask(token, weight) ? double(weight) : 0.0; };
            token = find_token(row, own, [=](double sum) { return sum * uniform; });
        }
    }
    if (threadIdx.x == 0) {
        tokens[blockIdx.x] = token;
        logprobs[blockIdx.x] = (logits[token] - largest) * row.inverse_temperature - log_total;
    }
}
EXPORT(sample_tokens)

// Computes the sampling masks that `sample_tokens` uses with the same settings: sets bit token % 32 of word token / 32 of `words` [n,
// ceil(width / 32)] for each token in the mask. The logits [n, width] of all others become `masked`. Grid: n; blocks of at least two warps.
extern "C" __global__ void __launch_bounds__(1024)
    filter_tokens(unsigned* words, float* logits, int width, int limit, float inverse_temperature, int top_k, float top_p, float min_p, float masked) {
    logits += (long long)blockIdx.x * width;
    words += (long long)blockIdx.x * ((width + 31) / 32);
    SampledRow row = {logits, min(limit, width), -INFINITY, inverse_temperature > 0 ? inverse_temperature : 1, aligned(logits)};
    for (int token = threadIdx.x; token < row.limit; token += blockDim.x) row.max = fmaxf(row.max, logits[token]);
    row.max = block_max(row.max);
    SamplingMask mask = filtered(row, top_k, top_p, min_p);
    __syncthreads();  // all threads have read the logits, which some of them overwrite below
    int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE, warps = blockDim.x / WARP_SIZE;
    for (int begin = warp * WARP_SIZE; begin < width; begin += warps * WARP_SIZE) {
        int token = begin + lane;
        bool stays = token < row.limit && mask(token, expf((logits[token] - row.max) * row.inverse_temperature));
        unsigned word = __ballot_sync(ALL, stays);
        if (lane == 0) words[begin / WARP_SIZE] = word;
        if (token < width && !stays) logits[token] = masked;
    }
}
EXPORT(filter_tokens)
