//! Every operation of every version against the same computed in f64 with plain loops, row by row: one test body for all devices.

use candle_core::{DType, Device, Result, Tensor};

use super::cpu::kept;
use super::cpu::testing::random;
use super::{Choice, Drawn, Filter, Heads, Kernels, Moments, Parameter, Segment, Step, Stock};

use crate::flow::Kept;
use exact::attend;

mod coded;
mod exact;
#[cfg(feature = "cuda")]
mod on_a_gpu;

#[cfg(feature = "cuda")]
pub(crate) use on_a_gpu::gpu;

/// What one operation gave, beside the exact values: rows of `width`.
struct Outcome {
    name: String,
    width: usize,
    exact: Vec<f64>,
    found: Vec<f64>,
}

impl Outcome {
    /// The operation, without the shape.
    fn operation(&self) -> &str {
        self.name.split(" of ").next().unwrap_or_default()
    }

    /// The distance of each row from the exact one, as a share of the exact row's norm, or of a tenth of the usual row's where that is more:
    /// the gradient of a query that sees one key is 0, and is what is left of a difference.
    fn errors(&self) -> Vec<f64> {
        assert_eq!(self.exact.len(), self.found.len(), "{}", self.name);
        let squares = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>();
        let rows = self.exact.len().div_ceil(self.width).max(1);
        let usual = (squares(&self.exact) / rows as f64).sqrt();
        let error = |(exact, found): (&[f64], &[f64])| {
            let distance: f64 = exact.iter().zip(found).map(|(e, f)| (e - f) * (e - f)).sum();
            let norm = squares(exact).sqrt().max(0.1 * usual);
            // A NaN must not pass as small.
            if distance.is_nan() { f64::INFINITY } else { distance.sqrt() / if norm == 0.0 { 1.0 } else { norm } }
        };
        self.exact.chunks(self.width).zip(self.found.chunks(self.width)).map(error).collect()
    }
}

/// Runs operations and collects what they gave.
struct Bench<'a> {
    kernels: &'a dyn Kernels,
    outcomes: Vec<Outcome>,
}

/// A tensor as the kernels have it, and its exact values.
struct Input {
    tensor: Tensor,
    exact: Vec<f64>,
}

impl Bench<'_> {
    fn put(&self, values: &Tensor, dtype: DType) -> Result<Input> {
        let rounded = values.to_dtype(dtype)?;
        let exact = rounded.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        Ok(Input { tensor: rounded.to_device(self.kernels.device())?, exact })
    }

    fn random(&self, shape: impl Into<candle_core::Shape>, seed: u64) -> Result<Input> {
        self.put(&random(shape, seed), self.kernels.dtype())
    }

    fn random_f32(&self, shape: impl Into<candle_core::Shape>, seed: u64) -> Result<Input> {
        self.put(&random(shape, seed), DType::F32)
    }

    fn outcome(&mut self, name: &str, width: usize, exact: Vec<f64>, found: &Tensor) -> Result<()> {
        let found = found.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.contiguous()?.flatten_all()?.to_vec1()?;
        self.outcomes.push(Outcome { name: name.to_owned(), width, exact, found });
        Ok(())
    }

    fn listed(&mut self, name: &str, exact: Vec<f64>, found: &[f32]) {
        let found = found.iter().map(|x| f64::from(*x)).collect();
        self.outcomes.push(Outcome { name: name.to_owned(), width: exact.len().max(1), exact, found });
    }

    fn rows(&mut self, t: usize, width: usize) -> Result<()> {
        let (kernels, eps) = (self.kernels, 1e-6f32);
        let name = |operation: &str| format!("{operation} of {t} x {width}");
        let (x, weight, dy, dx) =
            (self.random((t, width), 1)?, self.random(width, 2)?, self.random((t, width), 3)?, self.random((t, width), 4)?);
        let weight_gradient = self.random_f32(width, 5)?;
        let inverse: Vec<f64> = x.exact.chunks(width).map(|x| 1.0 / (mean(x.iter().map(|x| x * x)) + f64::from(eps)).sqrt()).collect();
        let y = (0..t * width).map(|i| x.exact[i] * inverse[i / width] * weight.exact[i % width]);
        let (found, inverse_rms) = kernels.rms_norm(&x.tensor, &weight.tensor, eps)?;
        self.outcome(&name("rms_norm"), width, y.collect(), &found)?;
        self.outcome(&name("rms_norm's inverse"), 1, inverse.clone(), &inverse_rms)?;

        let (mut d_exact, mut w_exact) = (dx.exact.clone(), weight_gradient.exact.clone());
        for (row, inverse) in inverse.iter().enumerate() {
            let at = |i: usize| row * width + i;
            let n: Vec<f64> = (0..width).map(|i| x.exact[at(i)] * inverse).collect();
            let g: Vec<f64> = (0..width).map(|i| dy.exact[at(i)] * weight.exact[i]).collect();
            let projection = mean(n.iter().zip(&g).map(|(n, g)| n * g));
            for i in 0..width {
                d_exact[at(i)] += inverse * (g[i] - n[i] * projection);
                w_exact[i] += dy.exact[at(i)] * n[i];
            }
        }
        kernels.rms_norm_backward(&dx.tensor, &weight_gradient.tensor, &dy.tensor, &x.tensor, &weight.tensor, &inverse_rms)?;
        self.outcome(&name("rms_norm_backward"), width, d_exact, &dx.tensor)?;
        self.outcome(&name("rms_norm_backward's weight"), width, w_exact, &weight_gradient.tensor)?;

        let sums = self.random_f32(width, 6)?;
        let exact = (0..width).map(|i| sums.exact[i] + (0..t).map(|row| dy.exact[row * width + i]).sum::<f64>());
        let exact = exact.collect();
        kernels.add_column_sums(&sums.tensor, &dy.tensor)?;
        self.outcome(&name("add_column_sums"), width, exact, &sums.tensor)?;

        // An index that comes up often, one that comes up once, and some that never do.
        let rows: Vec<u32> = (0..t + 2).map(|i| if i % 3 == 0 { 0 } else { (i * 7 % t) as u32 }).collect();
        let indices = kernels.indices(&rows)?;
        let gathered = kernels.gather(&x.tensor, &indices)?;
        let exact = rows.iter().flat_map(|row| x.exact[*row as usize * width..][..width].to_vec()).collect();
        self.outcome(&name("gather"), width, exact, &gathered)?;
        for dtype in [DType::F32, kernels.dtype()] {
            let target = self.put(&random((t, width), 8), dtype)?;
            let values = self.random((rows.len(), width), 9)?;
            let mut exact = target.exact.clone();
            for (row, values) in rows.iter().zip(values.exact.chunks(width)) {
                exact[*row as usize * width..][..width].iter_mut().zip(values).for_each(|(e, v)| *e += v);
            }
            kernels.scatter_add(&target.tensor, &indices, &values.tensor)?;
            self.outcome(&format!("{} to {dtype:?}", name("scatter_add")), width, exact, &target.tensor)?;
        }

        let gate_up = self.put(&(random((t, 2 * width), 10) * 4.0)?, kernels.dtype())?;
        let (mut y, mut d_exact) = (vec![0.0; t * width], vec![0.0; t * width * 2]);
        for (i, y) in y.iter_mut().enumerate() {
            let (row, column) = (i / width, i % width);
            let (gate, up) = (row * 2 * width + column, row * 2 * width + width + column);
            let (g, u) = (gate_up.exact[gate], gate_up.exact[up]);
            let sigmoid = 1.0 / (1.0 + (-g).exp());
            *y = g * sigmoid * u;
            d_exact[gate] = dy.exact[i] * u * (sigmoid + g * sigmoid * (1.0 - sigmoid));
            d_exact[up] = dy.exact[i] * g * sigmoid;
        }
        let found = kernels.swiglu(&gate_up.tensor)?;
        self.outcome(&name("swiglu"), width, y, &found)?;
        let found = kernels.swiglu_backward(&dy.tensor, &gate_up.tensor)?;
        self.outcome(&name("swiglu_backward"), 2 * width, d_exact, &found)
    }

    fn products(&mut self, m: usize, k: usize, n: usize) -> Result<()> {
        let kernels = self.kernels;
        let name = |operation: &str| format!("{operation} of {m} x {k} x {n}");
        let (x, weight, bias) = (self.random((m, k), 1)?, self.random((k, n), 2)?, self.random(n, 3)?);
        let (transposed, target, dy) = (self.random((n, k), 4)?, self.random((m, n), 5)?, self.random((m, n), 6)?);
        let gradient = self.random_f32((k, n), 7)?;
        let sum = |f: &dyn Fn(usize) -> f64, count: usize| (0..count).map(f).sum::<f64>();
        let all = |f: &dyn Fn(usize, usize) -> f64, rows: usize, columns: usize| {
            (0..rows * columns).map(|i| f(i / columns, i % columns)).collect::<Vec<f64>>()
        };
        let plain = |i: usize, j: usize| sum(&|l| x.exact[i * k + l] * weight.exact[l * n + j], k);
        let turned = |i: usize, j: usize| sum(&|l| x.exact[i * k + l] * transposed.exact[j * k + l], k);
        let found = kernels.product(&x.tensor, &weight.tensor, None)?;
        self.outcome(&name("product"), n, all(&plain, m, n), &found)?;
        let found = kernels.product(&x.tensor, &weight.tensor, Some(&bias.tensor))?;
        self.outcome(&name("product with bias"), n, all(&|i, j| plain(i, j) + bias.exact[j], m, n), &found)?;
        let found = kernels.product_transposed(&x.tensor, &transposed.tensor)?;
        self.outcome(&name("product_transposed"), n, all(&turned, m, n), &found)?;
        let found = kernels.logits(&x.tensor, &transposed.tensor)?;
        assert_eq!(found.dtype(), DType::F32);
        self.outcome(&name("logits"), n, all(&turned, m, n), &found)?;
        let exact = all(&|i, j| target.exact[i * n + j] + plain(i, j), m, n);
        kernels.add_product(&target.tensor, &x.tensor, &weight.tensor)?;
        self.outcome(&name("add_product"), n, exact, &target.tensor)?;
        let exact = all(&|i, j| gradient.exact[i * n + j] + sum(&|t| x.exact[t * k + i] * dy.exact[t * n + j], m), k, n);
        kernels.add_transposed_product(&gradient.tensor, &x.tensor, &dy.tensor)?;
        self.outcome(&name("add_transposed_product"), n, exact, &gradient.tensor)
    }

    fn rotation(&mut self, t: usize, heads: Heads) -> Result<()> {
        let (kernels, half, d) = (self.kernels, heads.width / 2, heads.width);
        let angle = |position: usize, i: usize| position as f64 * 0.7f64.powi(i as i32);
        let table = |f: fn(f64) -> f64| {
            Tensor::from_iter((0..t * half).map(|i| f(angle(i / half, i % half)) as f32), &Device::Cpu)?.reshape((t, half))
        };
        let (cos, sin) = (self.put(&table(f64::cos)?, DType::F32)?, self.put(&table(f64::sin)?, DType::F32)?);
        let positions: Vec<u32> = (0..t as u32).rev().collect();
        for inverse in [false, true] {
            let qkv = self.random((t, heads.row()), 1)?;
            let mut exact = qkv.exact.clone();
            for (row, position) in exact.chunks_mut(heads.row()).zip(&positions) {
                for head in row.chunks_mut(d).take(heads.query + heads.key_value) {
                    for i in 0..half {
                        let at = *position as usize * half + i;
                        let (c, s) = (cos.exact[at], sin.exact[at] * if inverse { -1.0 } else { 1.0 });
                        (head[i], head[i + half]) = (head[i] * c - head[i + half] * s, head[i + half] * c + head[i] * s);
                    }
                }
            }
            kernels.rotate(&qkv.tensor, heads, &cos.tensor, &sin.tensor, &kernels.indices(&positions)?, inverse)?;
            self.outcome(&format!("rotate of {t} x {heads:?}, inverse {inverse}"), d, exact, &qkv.tensor)?;
        }
        Ok(())
    }

    fn packed_attention(&mut self, segments: &[Segment], heads: Heads) -> Result<()> {
        let (kernels, d) = (self.kernels, heads.width);
        let t = segments.iter().map(|segment| segment.tokens.len()).sum::<usize>();
        let name = |operation: &str| format!("{operation} of {} sequences, {t} tokens, {heads:?}", segments.len());
        let (qkv, d_out) = (self.random((t, heads.row()), 1)?, self.random((t, heads.query * d), 2)?);
        let exact = attend(&qkv.exact, &d_out.exact, segments, heads);
        let (out, lse) = kernels.attend_packed(&qkv.tensor, segments, heads)?;
        self.outcome(&name("attend_packed"), d, exact.out, &out)?;
        let found = kernels.attend_packed_backward(&d_out.tensor, &out, &lse, &qkv.tensor, segments, heads)?;
        self.outcome(&name("attend_packed_backward"), d, exact.d_qkv, &found)
    }

    /// Sequences of these lengths, their tokens scattered over the blocks of a cache; the last token of each asks.
    fn cached_attention(&mut self, lengths: &[usize], heads: Heads) -> Result<()> {
        let (kernels, d) = (self.kernels, heads.width);
        let total: usize = lengths.iter().sum();
        let blocks_of = |length: &usize| length.div_ceil(super::BLOCK);
        let count = lengths.iter().map(blocks_of).sum::<usize>();
        let qkv = self.random((total, heads.row()), 1)?;
        // Every third block from the end, so that no sequence has neighbours.
        let mut numbers = (0..count as u32).map(|i| i * 3 + 1).rev();
        let tables: Vec<Vec<u32>> = lengths.iter().map(|length| numbers.by_ref().take(blocks_of(length)).collect()).collect();
        let cache = kernels.cache(count * 3 + 1, heads)?;
        let (mut slots, mut segments, mut last) = (Vec::new(), Vec::new(), Vec::new());
        for (table, length) in tables.iter().zip(lengths) {
            let start = slots.len();
            slots.extend((0..*length).map(|t| table[t / super::BLOCK] * super::BLOCK as u32 + (t % super::BLOCK) as u32));
            segments.push(Segment { tokens: start..start + length, prefix: 0..0 });
            last.push((start + length - 1) as u32);
        }
        kernels.store(&cache, &qkv.tensor, &kernels.indices(&slots)?, heads)?;
        // Block 0 gets a copy of the first sequence's first block, which the sequence then uses.
        kernels.copy_blocks(&cache, &[(tables[0][0], 0)], heads)?;
        let mut blocks: Vec<&[u32]> = tables.iter().map(Vec::as_slice).collect();
        let copied = [&[0], &tables[0][1..]].concat();
        blocks[0] = &copied;
        let asking = qkv.tensor.index_select(&Tensor::new(last.as_slice(), kernels.device())?, 0)?;
        let found = kernels.attend_cached(&asking, &cache, &kernels.tables(&blocks, lengths)?, heads)?;
        let all = attend(&qkv.exact, &vec![0.0; total * heads.query * d], &segments, heads).out;
        let width = heads.query * d;
        let exact = last.iter().flat_map(|row| all[*row as usize * width..][..width].to_vec()).collect();
        self.outcome(&format!("attend_cached of {lengths:?}, {heads:?}"), d, exact, &found)
    }

    fn head(&mut self, t: usize, vocabulary: usize, temperature: f32) -> Result<()> {
        let targets: Vec<u32> = (0..t).map(|i| ((i * 31 + vocabulary - 1) % vocabulary) as u32).collect();
        let whole = kept::all_below(vocabulary, (t, vocabulary));
        self.head_of("", &targets, vocabulary, temperature, &whole)
    }

    /// Rows that keep one token, the whole vocabulary, its beginning, its end, every third token, and a few that lie apart.
    fn head_of_kept(&mut self, vocabulary: usize, temperature: f32) -> Result<()> {
        let (v, mut kept) = (vocabulary as u32, Kept::default());
        let targets = vec![v - 1, v / 2, 0, v - 1, v / 3 * 3 - 3, v / 2];
        kept.push([v - 1]);
        kept.push_whole();
        kept.push(0..v / 2 + 1);
        kept.push(v / 2..v);
        kept.push((0..v).step_by(3));
        kept.push([0, v / 2 - 1, v / 2, v - 2]);
        self.head_of("kept ", &targets, vocabulary, temperature, &kept)
    }

    fn head_of(&mut self, what: &str, targets: &[u32], vocabulary: usize, temperature: f32, kept: &Kept) -> Result<()> {
        let (kernels, t) = (self.kernels, targets.len());
        let name = |operation: &str| format!("{what}{operation} of {t} x {vocabulary} at {temperature}");
        let logits = self.put(&(random((t, vocabulary), 1) * 8.0)?, DType::F32)?;
        let derivatives = |seed| random(t, seed).to_vec1::<f32>();
        let (d_logprob, d_entropy) = (derivatives(2)?, derivatives(3)?);
        let (mut logprobs, mut entropies, mut gradient) = (Vec::new(), Vec::new(), Vec::new());
        for (row, z) in logits.exact.chunks(vocabulary).enumerate() {
            let scaled: Vec<f64> = z.iter().map(|z| z / f64::from(temperature)).collect();
            let keeps = |i: usize| kept.contains(row, i as u32);
            let of_kept = || (0..vocabulary).filter(|i| keeps(*i));
            let total = of_kept().map(|i| scaled[i].exp()).sum::<f64>().ln();
            let log_p: Vec<f64> = scaled.iter().map(|z| z - total).collect();
            let entropy = -of_kept().map(|i| log_p[i].exp() * log_p[i]).sum::<f64>();
            let (a, b) = (f64::from(d_logprob[row]), f64::from(d_entropy[row]));
            gradient.extend(log_p.iter().enumerate().map(|(i, l)| {
                let chosen = if i == targets[row] as usize { 1.0 } else { 0.0 };
                let pull = if keeps(i) { a * (chosen - l.exp()) - b * l.exp() * (l + entropy) } else { 0.0 };
                pull / f64::from(temperature)
            }));
            logprobs.push(log_p[targets[row] as usize]);
            entropies.push(entropy);
        }
        let logits = kernels.keep(logits.tensor, kept)?;
        let scores = kernels.head_scores(&logits, targets, temperature)?;
        self.listed(&name("log-probability"), logprobs, &scores.logprobs);
        self.listed(&name("entropy"), entropies, &scores.entropies);
        let found = kernels.head_backward(logits, targets, temperature, &scores, &d_logprob, &d_entropy)?;
        self.outcome(&name("head_backward"), vocabulary, gradient, &found)
    }

    fn optimizer(&mut self, count: usize) -> Result<()> {
        let kernels = self.kernels;
        let (gradient, start, first) = (self.random_f32(count, 1)?, self.random_f32(count, 2)?, self.random_f32(count, 3)?);
        let second = self.put(&random(count, 4).sqr()?, DType::F32)?;
        let weight = start.tensor.to_dtype(kernels.dtype())?;
        let master = (kernels.dtype() != DType::F32).then_some(&start.tensor);
        let weight = if master.is_some() { &weight } else { &start.tensor };
        let squares = kernels.sum_of_squares(&gradient.tensor)?;
        self.listed("sum_of_squares", vec![gradient.exact.iter().map(|g| g * g).sum()], &[squares as f32]);
        let (mut p, mut m, mut v) = (start.exact.clone(), first.exact.clone(), second.exact.clone());
        exact_step(&mut p, &mut m, &mut v, &gradient.exact);
        let moments = Moments::Full { first: first.tensor.clone(), second: second.tensor.clone() };
        kernels.adamw(&Parameter { weight, master, moments: &moments, gradient: &gradient.tensor }, &STEP)?;
        self.outcome(&format!("adamw of {count}"), count, p.clone(), weight)?;
        self.outcome(&format!("adamw of {count}, master"), count, p, master.unwrap_or(weight))?;
        self.outcome(&format!("adamw of {count}, first moment"), count, m, &first.tensor)?;
        self.outcome(&format!("adamw of {count}, second moment"), count, v, &second.tensor)?;
        let exact = gradient.exact.iter().zip(&first.exact).map(|(g, _)| *g).collect::<Vec<_>>();
        let other = self.random_f32(count, 9)?;
        kernels.add(&other.tensor, &gradient.tensor)?;
        let exact = exact.iter().zip(&other.exact).map(|(g, o)| g + o).collect();
        self.outcome(&format!("add of {count}"), count, exact, &other.tensor)?;
        kernels.clear(&other.tensor)?;
        self.outcome(&format!("clear of {count}"), count, vec![0.0; count], &other.tensor)
    }
}

/// The numbers of the steps that are tested.
const STEP: Step = Step { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, gradient_scale: 0.5, count: 3 };

/// `STEP` in f64.
fn exact_step(parameter: &mut [f64], first: &mut [f64], second: &mut [f64], gradient: &[f64]) {
    for (((p, m), v), g) in parameter.iter_mut().zip(first).zip(second).zip(gradient) {
        let g = g * 0.5;
        *m = 0.9 * *m + 0.1 * g;
        *v = 0.999 * *v + 0.001 * g * g;
        let (m_hat, v_hat) = (*m / (1.0 - 0.9f64.powi(3)), *v / (1.0 - 0.999f64.powi(3)));
        *p = *p * (1.0 - 0.01 * 0.1) - 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// Sequences without a prefix, laid end to end.
fn alone(lengths: &[usize]) -> Vec<Segment> {
    let mut start = 0;
    let segment = |length: &usize| {
        start += length;
        Segment { tokens: start - length..start, prefix: 0..0 }
    };
    lengths.iter().map(segment).collect()
}

/// A prefix, and sequences that continue it.
fn shared(prefix: usize, lengths: &[usize]) -> Vec<Segment> {
    let mut segments = alone(&[&[prefix], lengths].concat());
    segments[1..].iter_mut().for_each(|segment| segment.prefix = 0..prefix);
    segments
}

/// Some of the operations, over awkward shapes.
type Part = fn(&mut Bench) -> Result<()>;

const PARTS: [Part; 3] = [rows_and_products, attention, head_and_optimizer];

fn rows_and_products(bench: &mut Bench) -> Result<()> {
    for (t, width) in [(1, 64), (3, 16), (65, 128), (7, 1536)] {
        bench.rows(t, width)?;
    }
    for (m, k, n) in [(1, 64, 48), (3, 16, 64), (65, 128, 80)] {
        bench.products(m, k, n)?;
    }
    bench.rotation(5, Heads { query: 2, key_value: 1, width: 64 })?;
    bench.rotation(1, Heads { query: 6, key_value: 2, width: 128 })
}

fn attention(bench: &mut Bench) -> Result<()> {
    let heads = |query, key_value, width| Heads { query, key_value, width };
    for heads in [heads(1, 1, 64), heads(6, 1, 64), heads(8, 1, 128), heads(4, 2, 128)] {
        bench.packed_attention(&alone(&[1]), heads)?;
        bench.packed_attention(&alone(&[63, 1, 65]), heads)?;
        bench.packed_attention(&shared(37, &[1, 30, 64]), heads)?;
        bench.cached_attention(&[1, 16, 63, 64, 65], heads)?;
    }
    bench.packed_attention(&alone(&[64, 130]), heads(1, 1, 64))?;
    bench.cached_attention(&[300, 257], heads(12, 2, 128))?;
    // More query heads than rows of a tile.
    bench.cached_attention(&[20, 65], heads(20, 1, 64))?;
    // So many queries that the work on a prefix's keys is split.
    bench.packed_attention(&shared(70, &[30; 40]), heads(1, 1, 64))
}

/// Too much for an emulated GPU: a sequence of thousands of tokens, a thousand sequences that share their prompt, and a real vocabulary.
fn long(bench: &mut Bench) -> Result<()> {
    bench.packed_attention(&alone(&[4097]), Heads { query: 2, key_value: 1, width: 64 })?;
    bench.cached_attention(&[4097, 1, 4096], Heads { query: 2, key_value: 1, width: 128 })?;
    let lengths: Vec<usize> = (0..1024).map(|i| 1 + i * 7 % 23).collect();
    bench.packed_attention(&shared(150, &lengths), Heads { query: 2, key_value: 1, width: 128 })?;
    bench.cached_attention(&lengths, Heads { query: 6, key_value: 1, width: 64 })?;
    bench.rows(4097, 256)?;
    bench.head(64, 151_936, 0.6)
}

fn head_and_optimizer(bench: &mut Bench) -> Result<()> {
    for (t, vocabulary, temperature) in [(1, 17, 1.0), (5, 257, 0.6), (3, 4099, 1.0)] {
        bench.head(t, vocabulary, temperature)?;
    }
    for (vocabulary, temperature) in [(17, 1.0), (257, 0.6), (4099, 1.3)] {
        bench.head_of_kept(vocabulary, temperature)?;
    }
    [1, 255, 5000].into_iter().try_for_each(|count| bench.optimizer(count))?;
    [1, 7, 255, 256, 257, 5000].into_iter().try_for_each(|count| bench.coded_optimizer(count))
}

fn outcomes(kernels: &dyn Kernels, part: Part) -> Result<Vec<Outcome>> {
    let mut bench = Bench { kernels, outcomes: Vec::new() };
    part(&mut bench)?;
    Ok(bench.outcomes)
}

/// In f32 every row is within 2e-5 of the exact one; nearly all are far closer.
fn check_f32(kernels: &dyn Kernels, part: Part) -> Result<()> {
    for outcome in outcomes(kernels, part)? {
        let [worst, _] = worst_and_mean(&outcome);
        assert!(worst < 2e-5, "{}: a row is off by {worst:.1e} of itself", outcome.name);
    }
    Ok(())
}

/// In bf16 no row is further off than twice the worst that stock operations give for the operation in any shape (where much cancels, a row's
/// error is luck), and in each shape rows are no further off on average than half as much again.
fn check_bf16(kernels: &dyn Kernels, part: Part) -> Result<()> {
    let stock = outcomes(&Stock::new(Device::Cpu, DType::BF16), part)?;
    let worst_of = |operation: &str| {
        let same = stock.iter().filter(|outcome| outcome.operation() == operation);
        same.map(|outcome| worst_and_mean(outcome)[0]).fold(0.0, f64::max)
    };
    for (outcome, stock) in outcomes(kernels, part)?.iter().zip(&stock) {
        let ([worst, mean], stock_worst, [_, stock_mean]) = (worst_and_mean(outcome), worst_of(outcome.operation()), worst_and_mean(stock));
        // Where stock operations happen to be exact, a fortieth of a rounding.
        let is_near = worst <= 2.0 * stock_worst + 1e-4 && mean <= 1.5 * stock_mean + 1e-4;
        assert!(
            is_near,
            "{}: rows are off by up to {worst:.1e} of themselves, {mean:.1e} on average; with stock operations {stock_worst:.1e}, {stock_mean:.1e}",
            outcome.name
        );
    }
    Ok(())
}

fn worst_and_mean(outcome: &Outcome) -> [f64; 2] {
    let errors = outcome.errors();
    [errors.iter().copied().fold(0.0, f64::max), mean(errors.into_iter())]
}

#[test]
fn the_plain_versions_are_exact() -> Result<()> {
    PARTS.into_iter().chain([long as Part]).try_for_each(|part| check_f32(&super::Cpu, part))
}

#[test]
fn stock_operations_are_exact_in_f32() -> Result<()> {
    PARTS.into_iter().try_for_each(|part| check_f32(&Stock::new(Device::Cpu, DType::F32), part))
}

/// Rounding to 8 bits of mantissa gives errors of 1 in 500, and a few times as much where sums cancel; a wrong formula gives far more.
#[test]
fn stock_operations_are_near_in_bf16() -> Result<()> {
    let kernels = Stock::new(Device::Cpu, DType::BF16);
    for outcome in PARTS.into_iter().map(|part| outcomes(&kernels, part)).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        let [_, mean] = worst_and_mean(&outcome);
        assert!(mean < 1e-2, "{}: rows are off by {mean:.1e} of themselves on average", outcome.name);
    }
    Ok(())
}

/// The same logits, draws and filters choose the same tokens on every version.
fn check_choices(kernels: &dyn Kernels) -> Result<()> {
    let (rows, vocabulary, limit) = (64, 300, 290);
    let logits = (random((rows, vocabulary), 5) * 6.0)?;
    let uniforms: Vec<f32> = random(rows, 6).to_vec1::<f32>()?.iter().map(|u| (u + 1.0) / 2.0).collect();
    let filter = |top_k, top_p, min_p| Filter { top_k, top_p, min_p };
    let filters = [filter(0, 1.0, 0.0), filter(5, 1.0, 0.0), filter(0, 0.8, 0.0), filter(0, 1.0, 0.1), filter(20, 0.9, 0.01)];
    for (temperature, filter) in [0.0, 0.6, 1.0].into_iter().flat_map(|t| filters.map(|filter| (t, filter))) {
        let choice = Choice { temperature, filter, uniforms: &uniforms };
        let expected = super::Cpu.choose(logits.copy()?, limit, &choice)?.read()?;
        let found = kernels.choose(logits.to_device(kernels.device())?.copy()?, limit, &choice)?.read()?;
        check_near(&found, &expected, &choice);
        assert_eq!((&found.truncated, &expected.truncated), (&None, &None));
        if temperature == 1.0 {
            continue;
        }
        let expected = super::Cpu.choose_kept(logits.copy()?, limit, &choice)?.read()?;
        let with_kept = kernels.choose_kept(logits.to_device(kernels.device())?.copy()?, limit, &choice)?.read()?;
        assert_eq!((&with_kept.tokens, &with_kept.logprobs), (&found.tokens, &found.logprobs), "recording changes nothing, {choice:?}");
        check_near(&with_kept, &expected, &choice);
        check_kept(&expected, &logits, limit, &choice)?;
    }
    // Where nothing is left out, nothing is recorded.
    let all = Choice { temperature: 0.6, filter: Filter::default(), uniforms: &uniforms };
    let drawn = kernels.choose_kept(logits.to_device(kernels.device())?.copy()?, vocabulary, &all)?.read()?;
    assert!(drawn.truncated.is_some_and(|truncated| truncated.kept.is_whole() && truncated.logprobs == drawn.logprobs));
    Ok(())
}

/// The same tokens from the same sets, and log-probabilities as near as sums in another order are.
fn check_near(found: &Drawn, expected: &Drawn, choice: &Choice) {
    let sets = |drawn: &Drawn| drawn.truncated.as_ref().map(|truncated| truncated.kept.clone());
    assert_eq!((&found.tokens, sets(found)), (&expected.tokens, sets(expected)), "{choice:?}");
    let logprobs = |drawn: &Drawn| -> Vec<f32> {
        drawn.logprobs.iter().chain(drawn.truncated.iter().flat_map(|truncated| &truncated.logprobs)).copied().collect()
    };
    let (found, expected) = (logprobs(found), logprobs(expected));
    assert_eq!(found.len(), expected.len());
    let distance = found.iter().zip(&expected).fold(0.0f32, |far, (a, b)| far.max((a - b).abs()));
    assert!(distance < 1e-5, "log-probabilities differ by {distance}, {choice:?}");
}

/// The kept sets against their definition, with everything sorted and in f64, and the log-probabilities among them.
fn check_kept(drawn: &Drawn, logits: &Tensor, limit: usize, choice: &Choice) -> Result<()> {
    let truncated = drawn.truncated.as_ref().expect("choose_kept records");
    let temperature = if choice.temperature == 0.0 { 1.0 } else { f64::from(choice.temperature) };
    for (row, z) in logits.to_vec2::<f32>()?.iter().enumerate() {
        let weights: Vec<f64> = z[..limit].iter().map(|z| (f64::from(*z) / temperature).exp()).collect();
        let mut order: Vec<usize> = (0..limit).collect();
        order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
        let Filter { top_k, top_p, min_p } = choice.filter;
        let least = f64::from(min_p) * weights[order[0]];
        order.retain(|token| weights[*token] >= least);
        order.truncate(if top_k == 0 { limit } else { top_k });
        let total: f64 = order.iter().map(|token| weights[*token]).sum();
        let mut reached = 0.0;
        let last = order.iter().position(|token| {
            reached += weights[*token];
            top_p < 1.0 && reached >= f64::from(top_p) * total
        });
        order.truncate(last.map_or(order.len(), |last| last + 1));
        let total: f64 = order.iter().map(|token| weights[*token]).sum();
        order.sort_unstable();
        let kept: Vec<usize> = (0..z.len()).filter(|token| truncated.kept.contains(row, *token as u32)).collect();
        assert_eq!(kept, order, "row {row}, {choice:?}");
        let exact = (weights[drawn.tokens[row] as usize] / total).ln();
        assert!((f64::from(truncated.logprobs[row]) - exact).abs() < 1e-5, "row {row}: {} and {exact}", truncated.logprobs[row]);
    }
    Ok(())
}

/// A chosen token's log-probability is the one that the trainer will give it, to the bit.
fn check_scores_of_choices(kernels: &dyn Kernels) -> Result<()> {
    let logits = (random((9, 301), 7) * 6.0)?.to_device(kernels.device())?;
    let uniforms = vec![0.7; 9];
    for (temperature, top_p) in [(0.6, 1.0), (1.0, 0.9)] {
        let filter = Filter { top_k: 0, top_p, min_p: 0.0 };
        let choice = Choice { temperature, filter, uniforms: &uniforms };
        let Drawn { tokens, logprobs, .. } = kernels.choose(logits.copy()?, 290, &choice)?.read()?;
        assert_eq!(kernels.head_scores(&logits.copy()?, &tokens, temperature)?.logprobs, logprobs);
        let Drawn { tokens, truncated, .. } = kernels.choose_kept(logits.copy()?, 290, &choice)?.read()?;
        let truncated = truncated.expect("choose_kept records");
        let kept = kernels.keep(logits.copy()?, &truncated.kept)?;
        assert_eq!(kernels.head_scores(&kept, &tokens, temperature)?.logprobs, truncated.logprobs);
    }
    Ok(())
}

#[test]
fn the_sampler_scores_as_the_trainer_does() -> Result<()> {
    check_scores_of_choices(&super::Cpu)
}

#[test]
fn stock_operations_choose_the_same_tokens() -> Result<()> {
    check_choices(&Stock::new(Device::Cpu, DType::F32))
}

#[test]
fn stock_operations_leave_the_same_codes() -> Result<()> {
    coded::check_codes(&Stock::new(Device::Cpu, DType::F32))
}

/// The kernels for GPUs, thread by thread on the CPU.
mod emulated {
    use std::sync::Arc;

    use super::*;
    use crate::kernels::Fused;
    use crate::kernels::fused::emulated::Emulator;

    fn kernels(dtype: DType) -> Result<Option<Fused>> {
        Emulator::new().map(|emulator| Fused::new(Arc::new(emulator), dtype)).transpose()
    }

    fn in_f32(part: Part) -> Result<()> {
        kernels(DType::F32)?.map_or(Ok(()), |kernels| check_f32(&kernels, part))
    }

    fn in_bf16(part: Part) -> Result<()> {
        kernels(DType::BF16)?.map_or(Ok(()), |kernels| check_bf16(&kernels, part))
    }

    #[test]
    fn rows_and_products_are_exact_in_f32() -> Result<()> {
        in_f32(rows_and_products)
    }

    #[test]
    fn rows_and_products_are_near_in_bf16() -> Result<()> {
        in_bf16(rows_and_products)
    }

    #[test]
    fn attention_is_exact_in_f32() -> Result<()> {
        in_f32(attention)
    }

    #[test]
    fn attention_is_near_in_bf16() -> Result<()> {
        in_bf16(attention)
    }

    #[test]
    fn head_and_optimizer_are_exact_in_f32() -> Result<()> {
        in_f32(head_and_optimizer)
    }

    #[test]
    fn head_and_optimizer_are_near_in_bf16() -> Result<()> {
        in_bf16(head_and_optimizer)
    }

    #[test]
    fn the_fused_kernels_leave_the_same_codes() -> Result<()> {
        kernels(DType::F32)?.map_or(Ok(()), |kernels| coded::check_codes(&kernels))
    }

    #[test]
    fn the_fused_kernels_choose_the_same_tokens() -> Result<()> {
        kernels(DType::F32)?.map_or(Ok(()), |kernels| check_choices(&kernels))
    }

    #[test]
    fn the_fused_sampler_scores_as_the_trainer_does() -> Result<()> {
        kernels(DType::F32)?.map_or(Ok(()), |kernels| check_scores_of_choices(&kernels))
    }
}
