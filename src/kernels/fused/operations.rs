//! Each operation of [`Kernels`] as launches.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::attention_work::{KeyWork, QueryWork, TILE};
use super::launch::Argument::{Float, Floats, Int, Long, Tensor as At, Unsigned};
use super::launch::{Factor, Grid};
use super::{Fused, MAX_BLOCKS, MAX_THREADS, suffix};
use crate::flow::{Kept, Truncated};
use crate::kernels::cpu::adamw_8bit::CODED;
use crate::kernels::cpu::kept;
use crate::kernels::shape::{Heads, Indices, LayerCache, Segment, Tables};
use crate::kernels::{BLOCK, Choice, Chosen, DeviceMemory, Drawn, Kernels, MASKED, Moments, Parameter, RowScores, Step};

/// Threads of a block of attention.
const ATTENTION_THREADS: usize = 128;
/// Elements whose squares a block sums.
const SQUARES: usize = 1 << 16;
/// Threads that sum over a row of logits.
const HEAD_THREADS: usize = 512;

impl Fused {
    /// Attention's kernels are written for some widths in bf16, and for all multiples of 4 in f32.
    fn attention_kernel(&self, kernel: &str, heads: Heads) -> Result<String> {
        match (self.dtype, heads.width) {
            (DType::F32, width) if width % 4 == 0 && width <= 128 => Ok(format!("{kernel}_f32")),
            (DType::BF16, width @ (64 | 128)) => Ok(format!("{kernel}_bf16_d{width}")),
            (dtype, width) => {
                bail!("there is no fused attention for heads of width {width} in {dtype:?}; use --kernels reference")
            }
        }
    }

    /// The grid of attention over `items` and heads, with `rows` rows of shared memory of the heads' width where tensor cores are used.
    fn attention_grid(&self, items: usize, along: usize, heads: Heads, rows: usize, more_bytes: usize) -> Grid {
        let shared_bytes = if self.dtype == DType::BF16 { rows * heads.width * 2 + more_bytes } else { 0 };
        Grid { blocks: [items, along, 1], threads: ATTENTION_THREADS, shared_bytes }
    }

    /// Sets what is not kept of `logits [t, v]` to [`MASKED`], in place.
    fn mask(&self, logits: &Tensor, kept: &Kept) -> Result<()> {
        let (rows, width) = logits.dims2()?;
        kept::check(kept, (rows, width))?;
        if kept.is_whole() {
            return Ok(());
        }
        let (mut offsets, mut runs) = (vec![0], Vec::new());
        for row in 0..rows {
            runs.extend(kept.runs(row).as_flattened());
            offsets.push(runs.len() as u32 / 2);
        }
        let arguments = [At(logits), At(&self.numbers(&offsets)?), At(&self.numbers(&runs)?), Int(width), Float(MASKED)];
        self.launch_exactly("keep_tokens", Grid::of(rows, HEAD_THREADS), &arguments)
    }

    fn index_tensor(&self, rows: &Indices) -> Result<Tensor> {
        match &rows.device {
            Some(rows) => Ok(rows.clone()),
            None => self.numbers(rows.host),
        }
    }
}

/// The sets of which each row of `words` words has a bit for each token. A row of nothing but zeros comes from logits that are not numbers; a row of
/// ones keeps the whole vocabulary.
fn of_bits(bits: &[u32], words: usize, width: usize) -> Kept {
    let mut kept = Kept::default();
    for row in bits.chunks_exact(words) {
        let count: usize = row.iter().map(|word| word.count_ones() as usize).sum();
        if count == 0 || count == width {
            kept.push_whole();
            continue;
        }
        let of_word = |(at, word): (usize, &u32)| {
            let (first, word) = (at as u32 * 32, *word);
            (0..if word == 0 { 0 } else { 32 }).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
        };
        kept.push(row.iter().enumerate().flat_map(of_word));
    }
    kept
}

/// Rows that go to the same place, together: distinct places, where each one's rows begin, and the rows, in their own order.
fn grouped(places: &[u32]) -> [Vec<u32>; 3] {
    let mut order: Vec<u32> = (0..places.len() as u32).collect();
    order.sort_by_key(|row| places[*row as usize]);
    let (mut targets, mut offsets) = (Vec::new(), Vec::new());
    for (at, row) in order.iter().enumerate() {
        let place = places[*row as usize];
        if targets.last() != Some(&place) {
            targets.push(place);
            offsets.push(at as u32);
        }
    }
    offsets.push(order.len() as u32);
    [targets, offsets, order]
}

impl Kernels for Fused {
    fn version(&self) -> &'static str {
        if self.machine.is_batch_invariant() { "fused, batch-invariant" } else { "fused" }
    }

    fn device(&self) -> &Device {
        self.machine.device()
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn memory(&self) -> Option<DeviceMemory> {
        self.machine.memory()
    }

    fn indices<'a>(&self, rows: &'a [u32]) -> Result<Indices<'a>> {
        Ok(Indices { host: rows, device: Some(self.numbers(rows)?) })
    }

    fn tables<'a>(&self, blocks: &'a [&'a [u32]], counts: &'a [usize]) -> Result<Tables<'a>> {
        let longest = blocks.iter().map(|blocks| blocks.len()).max().unwrap_or(0);
        let mut rows = vec![0; longest * blocks.len()];
        for (row, blocks) in rows.chunks_exact_mut(longest.max(1)).zip(blocks) {
            row[..blocks.len()].copy_from_slice(blocks);
        }
        let numbers: Vec<u32> = counts.iter().map(|count| *count as u32).collect();
        let device = Some((self.numbers(&rows)?.reshape((blocks.len(), longest))?, self.numbers(&numbers)?));
        Ok(Tables { blocks, counts, device })
    }

    fn gather(&self, table: &Tensor, rows: &Indices) -> Result<Tensor> {
        let (_, width) = table.dims2()?;
        let out = self.empty((rows.len(), width))?;
        let arguments = [At(&out), At(table), At(&self.index_tensor(rows)?), Int(width)];
        self.launch("gather_rows", Grid::of(rows.len(), self.threads(width)), &arguments)?;
        Ok(out)
    }

    fn scatter_add(&self, target: &Tensor, rows: &Indices, values: &Tensor) -> Result<()> {
        let (_, width) = target.dims2()?;
        let [targets, offsets, order] = grouped(rows.host);
        let grid = Grid::of(targets.len(), self.threads(width));
        let lists = [self.numbers(&targets)?, self.numbers(&offsets)?, self.numbers(&order)?];
        let kernel = match (target.dtype(), self.dtype) {
            (to, from) if to == from => format!("scatter_add_rows_{}", self.suffix()),
            (DType::F32, DType::BF16) => "scatter_add_rows_bf16_to_f32".to_owned(),
            (to, from) => bail!("rows of {from:?} cannot be added to {to:?}"),
        };
        let arguments = [At(target), At(values), At(&lists[0]), At(&lists[1]), At(&lists[2]), Int(width)];
        self.launch_exactly(&kernel, grid, &arguments)
    }

    fn product(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let ((m, _), (_, n)) = (x.dims2()?, weight.dims2()?);
        let out = self.empty((m, n))?;
        self.multiply(x, weight, &out, false)?;
        if let Some(bias) = bias {
            self.launch("add_bias", self.plane(m, n), &[At(&out), At(bias), Long(m), Int(n)])?;
        }
        Ok(out)
    }

    fn product_transposed(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let ((m, _), (n, _)) = (x.dims2()?, weight.dims2()?);
        let out = self.empty((m, n))?;
        self.multiply_back(x, Factor::transpose(weight), &out, false)?;
        Ok(out)
    }

    fn add_product(&self, target: &Tensor, x: &Tensor, weight: &Tensor) -> Result<()> {
        self.multiply(x, weight, target, true)
    }

    fn add_transposed_product(&self, gradient: &Tensor, a: &Tensor, b: &Tensor) -> Result<()> {
        self.multiply_back(Factor::transpose(a), b, gradient, true)
    }

    fn add_column_sums(&self, gradient: &Tensor, dy: &Tensor) -> Result<()> {
        let (rows, n) = dy.dims2()?;
        self.add_row_sums(gradient, rows, |grid, partials, per_chunk| {
            self.launch("column_sum_partials", grid, &[At(partials), At(dy), Int(rows), Int(n), Int(per_chunk)])
        })
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
        let (rows, width) = x.dims2()?;
        let (y, inverse_rms) = (self.empty((rows, width))?, self.empty_f32(rows)?);
        let arguments = [At(&y), At(&inverse_rms), At(x), At(weight), Int(width), Float(eps)];
        self.launch("rms_norm_forward", Grid::of(rows, self.threads(width)), &arguments)?;
        Ok((y, inverse_rms))
    }

    fn rms_norm_backward(
        &self,
        dx: &Tensor,
        weight_gradient: &Tensor,
        dy: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        inverse_rms: &Tensor,
    ) -> Result<()> {
        let (rows, width) = x.dims2()?;
        self.add_row_sums(weight_gradient, rows, |grid, partials, per_chunk| {
            let arguments = [At(partials), At(dy), At(x), At(inverse_rms), Int(rows), Int(width), Int(per_chunk)];
            self.launch("rms_norm_weight_partials", grid, &arguments)
        })?;
        let arguments = [At(dx), At(dy), At(x), At(weight), At(inverse_rms), Int(width)];
        self.launch("rms_norm_backward", Grid::of(rows, self.threads(width)), &arguments)
    }

    fn rotate(&self, qkv: &Tensor, heads: Heads, cos: &Tensor, sin: &Tensor, positions: &Indices, inverse: bool) -> Result<()> {
        let (turned, half, sign) = (heads.query + heads.key_value, heads.width / 2, if inverse { -1.0 } else { 1.0 });
        let limit = cos.dim(0)?;
        if let Some(position) = positions.host.iter().find(|position| **position as usize >= limit) {
            bail!("position {position} is beyond the model's window of {limit} tokens");
        }
        let positions = self.index_tensor(positions)?;
        let arguments = [At(qkv), At(cos), At(sin), At(&positions), Int(heads.row()), Int(turned), Int(half), Float(sign)];
        self.launch("rotate", Grid::of(qkv.dim(0)?, self.threads(turned * half)), &arguments)
    }

    fn attend_packed(&self, qkv: &Tensor, segments: &[Segment], heads: Heads) -> Result<(Tensor, Tensor)> {
        let (tokens, _) = qkv.dims2()?;
        let work = QueryWork::of(segments);
        let grid = self.attention_grid(work.tiles.len() / 2, heads.query, heads, 4 * TILE, 0);
        let (segments, tiles) = (self.numbers(&work.segments)?, self.numbers(&work.tiles)?);
        let (out, lse) = (self.empty((tokens, heads.query * heads.width))?, self.empty_f32((heads.query, tokens))?);
        let kernel = self.attention_kernel("attend_packed_forward", heads)?;
        let arguments = [
            At(&out),
            At(&lse),
            At(qkv),
            At(&segments),
            At(&tiles),
            Int(tokens),
            Int(heads.query),
            Int(heads.key_value),
            Int(heads.width),
            Float(heads.scale()),
        ];
        self.launch_exactly(&kernel, grid, &arguments)?;
        Ok((out, lse))
    }

    fn attend_packed_backward(
        &self,
        d_out: &Tensor,
        out: &Tensor,
        log_sum_exp: &Tensor,
        qkv: &Tensor,
        segments: &[Segment],
        heads: Heads,
    ) -> Result<Tensor> {
        let (tokens, row) = qkv.dims2()?;
        let (width, kv_width) = (heads.width, heads.key_value * heads.width);
        let sizes = [Int(tokens), Int(heads.query), Int(heads.key_value), Int(width), Float(heads.scale())];
        let (d_qkv, delta) = (self.empty((tokens, row))?, self.empty_f32((heads.query, tokens))?);
        let warps = Grid { blocks: [tokens, heads.query.div_ceil(ATTENTION_THREADS / 32), 1], threads: ATTENTION_THREADS, shared_bytes: 0 };
        let arguments = [At(&delta), At(d_out), At(out), Int(tokens), Int(heads.query), Int(width)];
        self.launch("attend_packed_delta", warps, &arguments)?;

        let work = QueryWork::of(segments);
        let grid = self.attention_grid(work.tiles.len() / 2, heads.query, heads, 4 * TILE, 0);
        let (rows, tiles) = (self.numbers(&work.segments)?, self.numbers(&work.tiles)?);
        let arguments = [&[At(&d_qkv), At(d_out), At(qkv), At(log_sum_exp), At(&delta), At(&rows), At(&tiles)], &sizes[..]].concat();
        self.launch_exactly(&self.attention_kernel("attend_packed_backward_queries", heads)?, grid, &arguments)?;

        let work = KeyWork::of(segments);
        let grid = self.attention_grid(work.items.len() / 5, heads.key_value, heads, 4 * TILE, 1024);
        let (items, sights) = (self.numbers(&work.items)?, self.numbers(&work.sights)?);
        let partial = self.empty_f32((work.slots.max(1), 2, TILE, kv_width))?;
        let tensors = [At(&d_qkv), At(&partial), At(d_out), At(qkv), At(log_sum_exp), At(&delta), At(&items), At(&sights)];
        let arguments = [&tensors, &sizes[..]].concat();
        self.launch_exactly(&self.attention_kernel("attend_packed_backward_keys", heads)?, grid, &arguments)?;
        if work.slots > 0 {
            let sums = self.numbers(&work.sums)?;
            let grid = Grid { blocks: [work.sums.len() / 4, TILE, 1], threads: ATTENTION_THREADS, shared_bytes: 0 };
            let arguments = [At(&d_qkv), At(&partial), At(&sums), Int(heads.query), Int(heads.key_value), Int(width)];
            self.launch("attend_packed_reduce_prefix", grid, &arguments)?;
        }
        Ok(d_qkv)
    }

    fn cache(&self, blocks: usize, heads: Heads) -> Result<LayerCache> {
        let zeros = || self.empty((blocks, heads.key_value, BLOCK, heads.width)).and_then(|cache| cache.zero_set().map(|()| cache));
        Ok(LayerCache { keys: zeros()?, values: zeros()? })
    }

    fn store(&self, cache: &LayerCache, qkv: &Tensor, slots: &Indices, heads: Heads) -> Result<()> {
        let slots = self.index_tensor(slots)?;
        let sizes = [Int(heads.query), Int(heads.key_value), Int(heads.width)];
        let arguments = [&[At(&cache.keys), At(&cache.values), At(qkv), At(&slots)], &sizes[..]].concat();
        self.launch("cache_store", Grid::of(qkv.dim(0)?, ATTENTION_THREADS), &arguments)
    }

    fn copy_blocks(&self, cache: &LayerCache, pairs: &[(u32, u32)], heads: Heads) -> Result<()> {
        let flat: Vec<u32> = pairs.iter().flat_map(|(from, to)| [*from, *to]).collect();
        let flat = if flat.is_empty() { return Ok(()) } else { self.numbers(&flat)? };
        let arguments = [At(&cache.keys), At(&cache.values), At(&flat), Int(heads.key_value * BLOCK * heads.width)];
        self.launch("cache_copy_blocks", Grid::of(pairs.len(), 256), &arguments)
    }

    fn attend_cached(&self, qkv: &Tensor, cache: &LayerCache, tables: &Tables, heads: Heads) -> Result<Tensor> {
        let Some((blocks, counts)) = &tables.device else { bail!("the sequences' blocks are not on the device") };
        let (n, stride) = blocks.dims2()?;
        let out = self.empty((n, heads.query * heads.width))?;
        let stages = if heads.width > 64 { 3 } else { 4 };
        let grid = self.attention_grid(heads.key_value, n, heads, 2 * TILE * stages, 2560);
        let tensors = [At(&out), At(qkv), At(&cache.keys), At(&cache.values), At(blocks), At(counts)];
        let sizes = [Int(stride), Int(heads.query), Int(heads.key_value), Int(heads.width), Float(heads.scale())];
        self.launch_exactly(&self.attention_kernel("attend_cached", heads)?, grid, &[&tensors[..], &sizes].concat())?;
        Ok(out)
    }

    fn swiglu(&self, gate_up: &Tensor) -> Result<Tensor> {
        let (rows, width) = gate_up.dims2()?;
        let out = self.empty((rows, width / 2))?;
        self.launch("swiglu_forward", self.plane(rows, width / 2), &[At(&out), At(gate_up), Long(rows), Int(width / 2)])?;
        Ok(out)
    }

    fn swiglu_backward(&self, dy: &Tensor, gate_up: &Tensor) -> Result<Tensor> {
        let (rows, width) = gate_up.dims2()?;
        let out = self.empty((rows, width))?;
        let arguments = [At(&out), At(dy), At(gate_up), Long(rows), Int(width / 2)];
        self.launch("swiglu_backward", self.plane(rows, width / 2), &arguments)?;
        Ok(out)
    }

    fn logits(&self, x: &Tensor, table: &Tensor) -> Result<Tensor> {
        let logits = self.empty_f32((x.dim(0)?, table.dim(0)?))?;
        self.multiply(x, Factor::transpose(table), &logits, false)?;
        Ok(logits)
    }

    fn head_scores(&self, logits: &Tensor, targets: &[u32], temperature: f32) -> Result<RowScores> {
        let (rows, width) = logits.dims2()?;
        if let Some(target) = targets.iter().find(|target| **target as usize >= width) {
            bail!("token {target} is beyond the model's vocabulary of {width}");
        }
        let scores = self.empty_f32((rows, 3))?;
        let arguments = [At(&scores), At(logits), At(&self.numbers(targets)?), Int(width), Float(1.0 / temperature)];
        self.launch_exactly("head_forward", Grid::of(rows, HEAD_THREADS), &arguments)?;
        let scores: Vec<f32> = scores.flatten_all()?.to_vec1()?;
        let column = |column: usize| scores.iter().skip(column).step_by(3).copied().collect();
        Ok(RowScores { logprobs: column(0), entropies: column(1), log_sum_exp: column(2) })
    }

    fn head_backward(
        &self,
        logits: Tensor,
        targets: &[u32],
        temperature: f32,
        scores: &RowScores,
        d_logprob: &[f32],
        d_entropy: &[f32],
    ) -> Result<Tensor> {
        let (rows, width) = logits.dims2()?;
        let mut flat = Vec::with_capacity(rows * 3);
        for row in 0..rows {
            flat.extend([scores.logprobs[row], scores.entropies[row], scores.log_sum_exp[row]]);
        }
        let put = |values: &[f32]| self.machine.put_floats(values);
        let lists = [put(&flat)?, put(d_logprob)?, put(d_entropy)?];
        let gradient = if self.dtype == DType::F32 { logits.clone() } else { self.empty((rows, width))? };
        let tensors = [At(&gradient), At(&logits), At(&self.numbers(targets)?), At(&lists[0]), At(&lists[1]), At(&lists[2])];
        self.launch("head_backward", Grid::of(rows, HEAD_THREADS), &[&tensors[..], &[Int(width), Float(1.0 / temperature)]].concat())?;
        Ok(gradient)
    }

    fn choose(&self, logits: Tensor, limit: usize, choice: &Choice) -> Result<Chosen> {
        let (rows, width) = logits.dims2()?;
        // Tokens, and the bits of their log-probabilities.
        let chosen = self.machine.empty((2 * rows).into(), DType::U32)?;
        let (tokens, logprobs) = (chosen.narrow(0, 0, rows)?, chosen.narrow(0, rows, rows)?);
        let uniforms = if choice.temperature == 0.0 { &vec![0.0; rows] } else { choice.uniforms };
        let inverse = if choice.temperature == 0.0 { 0.0 } else { 1.0 / choice.temperature };
        let tensors = [At(&tokens), At(&logprobs), At(&logits), At(&self.machine.put_floats(uniforms)?)];
        let filter = [Int(choice.filter.top_k), Float(choice.filter.top_p), Float(choice.filter.min_p)];
        let arguments = [&tensors[..], &[Int(width), Int(limit), Float(inverse)], &filter].concat();
        self.launch_exactly("sample_tokens", Grid::of(rows, HEAD_THREADS), &arguments)?;
        let numbers = self.machine.fetch(&chosen)?;
        let read = move || {
            let mut tokens = numbers()?;
            let logprobs = tokens.split_off(rows).into_iter().map(f32::from_bits).collect();
            Ok(Drawn { tokens, logprobs, truncated: None })
        };
        Ok(Chosen::later(tokens, read))
    }

    fn choose_kept(&self, logits: Tensor, limit: usize, choice: &Choice) -> Result<Chosen> {
        let (rows, width) = logits.dims2()?;
        let chosen = self.choose(logits.clone(), limit, choice)?;
        let Some(tokens) = chosen.on_device().cloned() else { bail!("the chosen tokens are not on the device") };
        let temperature = if choice.temperature == 0.0 { 1.0 } else { choice.temperature };
        // The filters' work is done a second time: once for the draw, and here for what it was made from.
        let kept: Box<dyn FnOnce() -> Result<Kept> + Send> = if choice.filter.is_off() {
            let kept = kept::all_below(limit, (rows, width));
            self.mask(&logits, &kept)?;
            Box::new(|| Ok(kept))
        } else {
            let words = width.div_ceil(32);
            let bits = self.machine.empty((rows, words).into(), DType::U32)?;
            let filter = [Int(choice.filter.top_k), Float(choice.filter.top_p), Float(choice.filter.min_p)];
            let arguments = [&[At(&bits), At(&logits), Int(width), Int(limit), Float(1.0 / temperature)], &filter[..], &[Float(MASKED)]];
            self.launch_exactly("filter_tokens", Grid::of(rows, HEAD_THREADS), &arguments.concat())?;
            let bits = self.machine.fetch(&bits.flatten_all()?)?;
            Box::new(move || Ok(of_bits(&bits()?, words, width)))
        };
        // The bits of the log-probabilities among the kept tokens, as the trainer computes them.
        let scores = self.machine.empty((rows * 3).into(), DType::U32)?;
        let arguments = [At(&scores), At(&logits), At(&tokens), Int(width), Float(1.0 / temperature)];
        self.launch_exactly("head_forward", Grid::of(rows, HEAD_THREADS), &arguments)?;
        let scores = self.machine.fetch(&scores)?;
        let read = move || {
            let logprobs = scores()?.into_iter().step_by(3).map(f32::from_bits).collect();
            Ok(Drawn { truncated: Some(Truncated { kept: kept()?, logprobs }), ..chosen.read()? })
        };
        Ok(Chosen::later(tokens, read))
    }

    fn keep(&self, logits: Tensor, kept: &Kept) -> Result<Tensor> {
        self.mask(&logits, kept)?;
        Ok(logits)
    }

    fn sum_of_squares(&self, gradient: &Tensor) -> Result<f64> {
        let count = gradient.elem_count();
        let chunks = count.div_ceil(SQUARES);
        let (partials, total) = (self.machine.empty(chunks.into(), DType::F64)?, self.machine.empty(1.into(), DType::F64)?);
        let arguments = [At(&partials), At(gradient), Long(count), Long(SQUARES)];
        self.launch_exactly("sum_of_squares", Grid::of(chunks, MAX_THREADS), &arguments)?;
        self.launch_exactly("sum_doubles", Grid::of(1, MAX_THREADS), &[At(&total), At(&partials), Int(chunks)])?;
        Ok(total.to_vec1::<f64>()?[0])
    }

    fn adamw(&self, parameter: &Parameter, step: &Step) -> Result<()> {
        let Parameter { weight, master, moments, gradient } = *parameter;
        let master = master.unwrap_or(weight);
        let count = weight.elem_count();
        let factors = step.factors();
        let numbers = [
            factors.keep,
            factors.rate,
            factors.keep_first,
            factors.take_first,
            factors.keep_second,
            factors.take_second,
            factors.second_correction,
            step.eps,
            step.gradient_scale,
        ];
        // Adapters are f32 whatever the model computes in.
        let dtype = suffix(weight.dtype());
        match moments {
            Moments::Full { first, second } => {
                let arguments = [At(weight), At(master), At(first), At(second), At(gradient), Long(count), Floats(&numbers)];
                self.launch_exactly(&format!("adamw_{dtype}"), self.stride(count), &arguments)
            }
            Moments::Coded { first, second } => {
                let [first_map, second_map] = &self.maps;
                let coded = [At(&first.codes), At(&first.scales), At(&second.codes), At(&second.scales)];
                let read = [At(gradient), At(first_map), At(second_map), Long(count), Floats(&numbers), Unsigned(step.count as u32)];
                // A warp has a block of codes at a time.
                let blocks = count.div_ceil(CODED * MAX_THREADS / 32).min(MAX_BLOCKS);
                self.launch_exactly(
                    &format!("adamw_8bit_{dtype}"),
                    Grid::of(blocks, MAX_THREADS),
                    &[&[At(weight), At(master)], &coded[..], &read].concat(),
                )
            }
        }
    }

    fn add(&self, target: &Tensor, source: &Tensor) -> Result<()> {
        let count = target.elem_count();
        self.launch_exactly("add_f32", self.stride(count), &[At(target), At(source), Long(count)])
    }

    fn clear(&self, target: &Tensor) -> Result<()> {
        target.zero_set()
    }
}
