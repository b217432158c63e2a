//! Counter-based random numbers. Each number is a pure function of a seed, a purpose and an address, so batch order, scheduling, restarts
//! and threads change none of them. The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
//! implemented here; [`TryRng`] makes it available to `rand`'s distributions.

use std::convert::Infallible;

use rand::distr::slice::Choose;
use rand::distr::{Distribution, Uniform};
use rand::{Rng, RngExt, TryRng, rand_core};

/// The purpose of a random number. No two purposes share a key, so numbers for different purposes at the same address are unrelated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Purpose {
    /// Tokens of training rollouts.
    Sampling = 1,
    /// Tokens of evaluation responses.
    Evaluation = 2,
    /// Initial weights.
    Initial = 3,
    /// Documents of the pre-training corpus.
    Corpus = 4,
    /// Problems of the embedded model's data sets.
    Problems = 5,
    /// The order in which examples or documents are visited.
    Order = 6,
    /// Intentionally random rewards, for control experiments.
    Control = 7,
    /// Bootstrap resampling for confidence intervals.
    Statistics = 8,
    /// Initial weights of adapters.
    Adapters = 9,
    /// Seeds of requests to servers.
    Requests = 10,
    /// Intentionally wrong labels.
    Labels = 11,
    /// Examples for groups replaced by dynamic sampling.
    DynamicSampling = 12,
    /// Initial weights of a critic's head.
    ValueHead = 13,
    /// Response lengths in `rlvr bench`.
    Lengths = 14,
    /// The choice of responses that a report includes.
    Included = 15,
}

/// Random numbers by address: the number that samples a token depends only on its step, prompt, sample and position.
pub struct CounterRng;

impl CounterRng {
    /// Returns a uniform number in [0, 1) on a grid of 2^-24, exact in `f32`.
    pub fn uniform(seed: u64, purpose: Purpose, step: u32, prompt: u32, sample: u32, position: u32) -> f32 {
        unit(philox([step, prompt, sample, position], key(seed, purpose))[0])
    }
}

/// An unlimited sequence of random numbers at one address, for uses whose count is not known in advance: a document, a matrix, a
/// permutation.
///
/// Streams with different indices are unrelated. A purpose uses either [`CounterRng`] or streams, not both.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    index: u64,
    /// The number of the next block of four words.
    block: u64,
    words: [u32; 4],
    /// The number of `words` already used.
    used: usize,
}

impl Stream {
    /// Creates stream number `index` of a purpose, at its start.
    pub fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        Self { key: key(seed, purpose), index, block: 0, words: [0; 4], used: 4 }
    }

    /// Moves to `words` 32-bit words from the start of the stream, so that any part of it can be generated separately.
    pub fn at(self, words: u64) -> Self {
        let mut stream = Self { block: words / 4, used: self.words.len(), ..self };
        (0..words % 4).for_each(|_| _ = stream.next_u32());
        stream
    }
}

/// Lets a stream feed all of `rand`'s distributions. A 64-bit number uses two words, the lower one first.
impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        if self.used == self.words.len() {
            let counter = [self.block as u32, (self.block >> 32) as u32, self.index as u32, (self.index >> 32) as u32];
            self.words = philox(counter, self.key);
            self.block += 1;
            self.used = 0;
        }
        let word = self.words[self.used];
        self.used += 1;
        Ok(word)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        rand_core::utils::next_u64_via_u32(self)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        rand_core::utils::fill_bytes_via_next_word(bytes, || self.try_next_u32())
    }
}

/// The distributions that existing records depend on. The test `distributions_never_change` fails if a later release of `rand` samples them
/// differently.
///
/// `below`, `between`, `pick` and `uniform` use `rand`. `chance`, `normal` and `shuffle` are implemented here, because `rand` consumes
/// different words for them and would change recorded numbers: its `Bernoulli` uses 64 bits instead of 24, its normal distribution
/// (`rand_distr`) uses the ziggurat method instead of Box-Muller, and its shuffle swaps from the front and samples several indices at once.
/// `random_range` and `choose` are avoided for the same reason: they round by Canon's method, while [`Uniform`] rejects by Lemire's.
impl Stream {
    /// Returns a uniform number in `0..n`.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: u32) -> u32 {
        Uniform::new(0, n).expect("below(n): n must not be 0").sample(self)
    }

    /// Returns a uniform number in `low..=high`.
    ///
    /// # Panics
    /// If `high` is less than `low`.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        Uniform::new_inclusive(low, high).expect("between(low, high): high must not be less than low").sample(self)
    }

    /// Returns one of `items`, each with equal probability.
    ///
    /// # Panics
    /// If `items` is empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        Choose::new(items).expect("pick(items): items must not be empty").sample(self)
    }

    /// Returns a uniform number in [0, 1) on a grid of 2^-24, exact in `f32`.
    pub fn uniform(&mut self) -> f32 {
        self.random()
    }

    /// Returns true with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        f64::from(self.uniform()) < probability
    }

    /// Returns a standard normal number (Box-Muller, in `f64`). Drops the second number of each pair, so that each number uses two words.
    pub fn normal(&mut self) -> f32 {
        // In (0, 1], because the logarithm of 0 is infinite.
        let radius = (f64::from(self.next_u32()) + 1.0) * 2f64.powi(-32);
        let turn = f64::from(self.next_u32()) * 2f64.powi(-32);
        ((-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()) as f32
    }

    /// Shuffles `items`; all permutations are equally likely (Fisher-Yates, from the back).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u32 + 1) as usize);
        }
    }
}

/// Converts the upper 24 bits to a number in [0, 1).
fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * 2f32.powi(-24)
}

/// Returns the key of a seed and a purpose. For a given purpose, different seeds have different keys.
fn key(seed: u64, purpose: Purpose) -> [u32; 2] {
    let mixed = mix(mix(seed) ^ u64::from(purpose as u32));
    [mixed as u32, (mixed >> 32) as u32]
}

/// The finalizer of SplitMix64: a bijection in which each input bit affects half of the output bits on average.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Philox4x32 with ten rounds: a bijection of the counter, selected by the key. Public only for kernels, whose keys belong to no purpose;
/// use [`CounterRng`] or [`Stream`] elsewhere.
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
    const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
    let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter, key);
    for _ in 0..10 {
        let product0 = u64::from(MULTIPLIERS[0]) * u64::from(c0);
        let product1 = u64::from(MULTIPLIERS[1]) * u64::from(c2);
        (c0, c1, c2, c3) = ((product1 >> 32) as u32 ^ c1 ^ k0, product1 as u32, (product0 >> 32) as u32 ^ c3 ^ k1, product0 as u32);
        (k0, k1) = (k0.wrapping_add(WEYL[0]), k1.wrapping_add(WEYL[1]));
    }
    [c0, c1, c2, c3]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_equals_published_vectors() {
        let check = |counter, key, expected| assert_eq!(philox(counter, key), expected);
        check([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        check([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        check(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        );
    }

    #[test]
    fn uniform_depends_on_each_part_of_the_address() {
        let base = CounterRng::uniform(1, Purpose::Sampling, 2, 3, 4, 5);
        assert_eq!(base, CounterRng::uniform(1, Purpose::Sampling, 2, 3, 4, 5));
        let others = [
            CounterRng::uniform(2, Purpose::Sampling, 2, 3, 4, 5),
            CounterRng::uniform(1, Purpose::Evaluation, 2, 3, 4, 5),
            CounterRng::uniform(1, Purpose::Sampling, 3, 3, 4, 5),
            CounterRng::uniform(1, Purpose::Sampling, 2, 4, 4, 5),
            CounterRng::uniform(1, Purpose::Sampling, 2, 3, 5, 5),
            CounterRng::uniform(1, Purpose::Sampling, 2, 3, 4, 6),
        ];
        assert!(others.iter().all(|&other| other != base));
        assert_eq!(unit(u32::MAX), 1.0 - 2f32.powi(-24));
    }

    #[test]
    fn stream_repeats_and_does_not_overlap_others() {
        let words = |seed, index| {
            let mut stream = Stream::new(seed, Purpose::Corpus, index);
            (0..9).map(|_| stream.next_u32()).collect::<Vec<_>>()
        };
        assert_eq!(words(7, 1), words(7, 1));
        assert!(words(7, 1).iter().all(|word| !words(7, 2).contains(word) && !words(8, 1).contains(word)));
    }

    #[test]
    fn stream_at_starts_anywhere() {
        let mut whole = Stream::new(7, Purpose::Initial, 3);
        let words: Vec<u32> = (0..23).map(|_| whole.next_u32()).collect();
        for start in [0, 1, 3, 4, 5, 8, 17] {
            let mut part = Stream::new(7, Purpose::Initial, 3).at(start as u64);
            assert!(words[start..].iter().all(|word| *word == part.next_u32()), "from word {start}");
        }
    }

    /// Recomputes, word by word, the numbers that existing corpora, problem sets, labels and weights were generated with.
    #[test]
    fn distributions_never_change() {
        let stream = || Stream::new(11, Purpose::Problems, 5);
        let (mut sampled, mut words) = (stream(), stream());
        // Lemire's multiplication: reject products whose low half is below 2^32 mod n, so that all results are equally likely.
        let mut below = |n: u32| loop {
            let product = u64::from(words.next_u32()) * u64::from(n);
            if product as u32 >= n.wrapping_neg() % n {
                return (product >> 32) as u32;
            }
        };
        // Some of the larger values reject up to half of all words.
        for n in [1, 2, 3, 7, 10, 900, 1 << 16, 65_537, 3 << 30, (1 << 31) + 1, u32::MAX].repeat(200) {
            assert_eq!(sampled.below(n), below(n), "{n}");
            let high = 99_999 + n / 2;
            assert_eq!(sampled.between(100_000, high.max(100_000)), 100_000 + below(high.max(100_000) - 99_999), "{n}");
        }
        let items: Vec<u32> = (0..1209).collect();
        (0..1000).for_each(|_| assert_eq!(*sampled.pick(&items), below(1209)));
        assert_eq!(sampled.next_u32(), words.next_u32());
        (0..1000).for_each(|_| assert_eq!(sampled.uniform(), unit(words.next_u32())));
        let (low, high) = (u64::from(words.next_u32()), u64::from(words.next_u32()));
        assert_eq!(sampled.next_u64(), high << 32 | low);
    }

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut stream = Stream::new(3, Purpose::Order, 0);
        let mut counts = [0u32; 7];
        (0..70_000).for_each(|_| counts[stream.below(7) as usize] += 1);
        // The standard deviation of a count is about 93.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 500), "{counts:?}");
        assert_eq!(stream.below(1), 0);
    }

    #[test]
    fn normal_has_the_moments_of_a_normal_distribution() {
        let mut stream = Stream::new(5, Purpose::Initial, 0);
        let values: Vec<f64> = (0..100_000).map(|_| f64::from(stream.normal())).collect();
        let moment = |power: i32| values.iter().map(|value| value.powi(power)).sum::<f64>() / values.len() as f64;
        assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.03 && (moment(4) - 3.0).abs() < 0.2);
    }

    #[test]
    fn shuffle_permutes() {
        let mut items: Vec<u32> = (0..50).collect();
        Stream::new(9, Purpose::Order, 4).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
