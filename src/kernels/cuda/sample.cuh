// Samples a token from a row of logits with one uniform number: inverts the cumulative distribution, in token order, after the filters.
//
// Nothing is sorted. The kept set is described by a threshold weight and a token id: all tokens above the threshold, and those at it up to
// that id. The threshold is found by bisection over its bits, which order non-negative floats. Weights are relative to the likeliest
// token's and are recomputed in each pass over the row. Their sums are in f64, so that even the smallest weight counts.
#pragma once
#include "head.cuh"

// The state of a row's passes: the logits of the tokens that may be sampled, `limit` of them.
struct SampledRow {
    const float* logits;
    int limit;
    float max, inverse_temperature;
    bool vectors;

    // The weights of four tokens from `token` on; only those below `end` are valid.
    __device__ __forceinline__ void weights(float (&w)[4], int token, int end) const {
        load(w, logits + token, end - token, vectors);
#pragma unroll
        for (int j = 0; j < 4; j++) w[j] = expf((w[j] - max) * inverse_temperature);
    }
};

// The tokens above the threshold weight, and those at the threshold up to `last`.
struct Kept {
    unsigned threshold = 0;
    int last = 0x7fffffff;

    __device__ __forceinline__ bool operator()(int token, float weight) const {
        unsigned bits = __float_as_uint(weight);
        return bits > threshold || (bits == threshold && token <= last);
    }
};

// The sum of amount(token, weight) over every `step`-th group of four tokens from `first` on and below `end`.
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

// The token at which the running sum of amounts (none negative) first exceeds target(total). Its amount is not 0 unless all are 0. If
// rounding used up the whole range, it is the last token with an amount. All threads get it. Needs every thread of the block, and at least
// two warps.
template <class F, class G>
__device__ __forceinline__ int find_token(const SampledRow& row, F amount, G target) {
    __shared__ double sums[32];
    constexpr int FEW = 4 * WARP_SIZE;
    int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE, warps = blockDim.x / WARP_SIZE;
    int begin = 0, end = row.limit;
    double left = 0;
    // Each warp sums its share of the range. The share that contains the target becomes the next range.
    for (bool first = true; first || end - begin > FEW; first = false) {
        int share = ((end - begin + warps - 1) / warps + FEW - 1) / FEW * FEW;
        int from = begin + warp * share, to = min(from + share, end);
        double sum = warp_sum(amounts(row, from + 4 * lane, FEW, to, amount));
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
    // Every warp finds the same token: four tokens per lane, and the lane by a running sum.
    int token = begin + 4 * lane;
    double sum = amounts(row, token, FEW, end, amount), reached = sum;
    for (int by = 1; by < WARP_SIZE; by *= 2) {
        double other = __shfl_up_sync(ALL, reached, by);
        if (lane >= by) reached += other;
    }
    unsigned some = __ballot_sync(ALL, sum > 0), beyond = __ballot_sync(ALL, sum > 0 && left < reached);
    int holder = beyond ? __ffs(beyond) - 1 : some ? 31 - __clz(some) : 0;
    left -= reached - sum;
    int found = begin;
    if (lane == holder && some) {
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

// Of the kept tokens, keeps only the likeliest that together reach `goal`, as a count or a sum of weights. Of equally likely tokens, lower
// ids come first. At least one token remains.
template <bool COUNTED>
__device__ __forceinline__ void keep_likeliest(const SampledRow& row, Kept& kept, double goal) {
    constexpr int WAYS = 8;
    // The largest threshold that reaches the goal is at least `low` and less than `high`. The tokens from `high` on contribute `above`.
    unsigned low = kept.threshold, high = __float_as_uint(1.0f) + 1;
    double above = 0;
    while (high - low > 1) {
        unsigned step = (high - low + WAYS - 1) / WAYS;
        double sums[WAYS] = {};
        for (int token = threadIdx.x * 4; token < row.limit; token += blockDim.x * 4) {
            float w[4];
            row.weights(w, token, row.limit);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                unsigned bits = __float_as_uint(w[j]);
                if (token + j >= row.limit || bits < low || bits >= high || !kept(token + j, w[j])) continue;
                double own = COUNTED ? 1 : w[j];
#pragma unroll
                for (int way = 1; way < WAYS; way++)
                    if (bits >= low + way * step) sums[way] += own;
            }
        }
        unsigned new_low = low, new_high = high;
        double new_above = above;
#pragma unroll
        for (int way = 1; way < WAYS; way++) {
            unsigned at = low + way * step;
            double reached = above + block_sum(sums[way]);
            if (at >= high) continue;
            if (reached >= goal)
                new_low = at;
            else if (at < new_high)
                new_high = at, new_above = reached;
        }
        low = new_low, high = new_high, above = new_above;
    }
    // The number of tokens needed at the threshold. The last of them is found like a sampled token.
    double weight = COUNTED ? 1 : __uint_as_float(low), equals = ceil((goal - above) / weight);
    Kept before = kept;
    auto equal = [=](int token, float w) { return double(__float_as_uint(w) == low && before(token, w)); };
    kept.last = find_token(row, equal, [=](double) { return equals > 1 ? equals - 1 : 0; });
    kept.threshold = low;
}

// Applies the filters: first min_p, then top_k, then top_p to the remaining tokens. top_k of 0, top_p of 1 and min_p of 0 are off.
__device__ __forceinline__ Kept filtered(const SampledRow& row, int top_k, float top_p, float min_p) {
    Kept kept;
    if (min_p > 0) kept.threshold = __float_as_uint(fminf(min_p, 1.0f));
    if (top_k > 0 && top_k < row.limit) keep_likeliest<true>(row, kept, top_k);
    if (top_p < 1) {
        auto own = [&](int token, float weight) { return kept(token, weight) ? double(weight) : 0.0; };
        double left = block_sum(amounts(row, threadIdx.x * 4, blockDim.x * 4, row.limit, own));
        keep_likeliest<false>(row, kept, top_p * left);
    }
    return kept;
}

// Samples tokens [n] from logits [n, width] (not scaled), and writes their log-probabilities [n] at this temperature, before filters and
// over the whole width. Tokens from `limit` on are never sampled. uniforms [n] are numbers in [0, 1). An inverse temperature of 0 or less
// selects the likeliest token, the first of equals, and its log-probability at temperature 1. Grid: n; blocks of at least two warps.
extern "C" __global__ void __launch_bounds__(1024)
    sample_tokens(int* tokens, float* logprobs, const float* logits, const float* uniforms, int width, int limit, float inverse_temperature, int top_k, float top_p,
                  float min_p) {
    logits += (long long)blockIdx.x * width;
    bool greedy = !(inverse_temperature > 0);
    SampledRow row = {logits, min(limit, width), -INFINITY, greedy ? 1 : inverse_temperature, aligned(logits)};

    // The log-probability is summed as in head_forward and by as many threads, so it is bit-identical to the trainer's.
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
            Kept kept = filtered(row, top_k, top_p, min_p);
            auto own = [&](int token, float weight) { return kept(token, weight) ? double(weight) : 0.0; };
            token = find_token(row, own, [=](double sum) { return sum * uniform; });
        }
    }
    if (threadIdx.x == 0) {
        tokens[blockIdx.x] = token;
        logprobs[blockIdx.x] = (logits[token] - largest) * row.inverse_temperature - log_total;
    }
}
EXPORT(sample_tokens)

// The tokens that `sample_tokens` could sample with the same settings: bit token % 32 of word token / 32 of `kept` [n, ceil(width / 32)] is
// set for each token that the filters keep. The logits [n, width] of all others become `masked`. Grid: n; blocks of at least two warps.
extern "C" __global__ void __launch_bounds__(1024)
    filter_tokens(unsigned* kept, float* logits, int width, int limit, float inverse_temperature, int top_k, float top_p, float min_p, float masked) {
    logits += (long long)blockIdx.x * width;
    kept += (long long)blockIdx.x * ((width + 31) / 32);
    SampledRow row = {logits, min(limit, width), -INFINITY, inverse_temperature > 0 ? inverse_temperature : 1, aligned(logits)};
    for (int token = threadIdx.x; token < row.limit; token += blockDim.x) row.max = fmaxf(row.max, logits[token]);
    row.max = block_max(row.max);
    Kept keeps = filtered(row, top_k, top_p, min_p);
    __syncthreads();  // all have read the logits, which some threads overwrite below
    int lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE, warps = blockDim.x / WARP_SIZE;
    for (int begin = warp * WARP_SIZE; begin < width; begin += warps * WARP_SIZE) {
        int token = begin + lane;
        bool stays = token < row.limit && keeps(token, expf((logits[token] - row.max) * row.inverse_temperature));
        unsigned word = __ballot_sync(ALL, stays);
        if (lane == 0) kept[begin / WARP_SIZE] = word;
        if (token < width && !stays) logits[token] = masked;
    }
}
EXPORT(filter_tokens)
