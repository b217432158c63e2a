//! Implements each operation of [`Kernels`] with launches.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor, bail};

use super::launch::Argument::{Float, Floats, Int, Long, Tensor as At, Unsigned};
use super::launch::{Grid, Product};
use super::{Fused, MAX_BLOCKS, MAX_THREADS, attention, copies, graphs, head, suffix};
use crate::flow::SamplingMask;
use crate::kernels::optimizer::QUANTIZATION_BLOCK;
use crate::kernels::shape::{BlockTables, Factor, Heads, Indices, LayerCache, Rotation, Segment, check_rows};
use crate::kernels::{DeviceMemory, Kernels, Moments, Parameter, Pass, PendingSample, RowScores, SamplingParams, Step, pass};

/// Number of pairs of elements of a head that a thread rotates back at a time.
const PAIRS: usize = 4;
/// Number of elements whose squares a block sums.
const SQUARES: usize = 1 << 16;

/// Groups rows by their targets, `targets[row]`. Returns the distinct targets, ascending; the offset of each target's first row in the third
/// list, and the end of the last; and the rows, sorted by target and otherwise in their original order.
fn group_by_target(targets: &[u32]) -> [Vec<u32>; 3] {
    let mut order: Vec<u32> = (0..targets.len() as u32).collect();
    order.sort_by_key(|row| targets[*row as usize]);
    let (mut distinct, mut offsets) = (Vec::new(), Vec::new());
    for (at, row) in order.iter().enumerate() {
        let target = targets[*row as usize];
        if distinct.last() != Some(&target) {
            distinct.push(target);
            offsets.push(at as u32);
        }
    }
    offsets.push(order.len() as u32);
    [distinct, offsets, order]
}

/// Checks that the rotary tables `[p, d/2]` cover all positions.
fn check_positions(rotation: &Rotation) -> Result<()> {
    let limit = rotation.cos.dim(0)?;
    if let Some(position) = rotation.positions.on_host()?.iter().find(|position| **position as usize >= limit) {
        bail!("position {position} is beyond the model's context length of {limit} tokens");
    }
    Ok(())
}

/// Rotates queries and keys by the angles of their positions, or back if the sign is -1.
fn rotate(fused: &Fused, qkv: &Tensor, heads: Heads, rotation: &Rotation, sign: f32) -> Result<()> {
    let Rotation { cos, sin, positions } = rotation;
    let (rotated, half) = (heads.query + heads.key_value, heads.width / 2);
    let arguments = [At(qkv), At(cos), At(sin), At(positions.on_device()?), Int(heads.row()), Int(rotated), Int(half), Float(sign)];
    fused.launch("rotate", Grid::of(qkv.dim(0)?, fused.threads(rotated * half)), &arguments)
}

impl Kernels for Fused {
    fn backend(&self) -> &'static str {
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
        Ok(Indices::Both(rows, self.u32_tensor(rows)?))
    }

    fn tables<'a>(&self, blocks: &'a [&'a [u32]], counts: &'a [usize]) -> Result<BlockTables<'a>> {
        let longest = blocks.iter().map(|blocks| blocks.len()).max().unwrap_or(0);
        let mut rows = vec![0; longest * blocks.len()];
        for (row, blocks) in rows.chunks_exact_mut(longest.max(1)).zip(blocks) {
            row[..blocks.len()].copy_from_slice(blocks);
        }
        let numbers: Vec<u32> = counts.iter().map(|count| *count as u32).collect();
        Ok(BlockTables::Device { blocks: self.u32_tensor(&rows)?.reshape((blocks.len(), longest))?, counts: self.u32_tensor(&numbers)? })
    }

    fn gather(&self, table: &Tensor, rows: &Indices) -> Result<Tensor> {
        let (_, width) = table.dims2()?;
        let out = self.machine.empty((rows.len(), width).into(), table.dtype())?;
        let arguments = [At(&out), At(table), At(rows.on_device()?), Int(width)];
        // The f32 kernel also copies token ids (u32), bit by bit.
        self.launch_exactly(&format!("gather_rows_{}", suffix(table.dtype())), Grid::of(rows.len(), self.threads(width)), &arguments)?;
        Ok(out)
    }

    fn scatter_add_into(&self, target: &Tensor, rows: &[u32], values: &Tensor) -> Result<()> {
        let (_, width) = target.dims2()?;
        check_rows(rows, values)?;
        let [targets, offsets, order] = group_by_target(rows);
        let grid = Grid::of(targets.len(), self.threads(width));
        let lists = [self.u32_tensor(&targets)?, self.u32_tensor(&offsets)?, self.u32_tensor(&order)?];
        let kernel = match (target.dtype(), self.dtype) {
            (to, from) if to == from => format!("scatter_add_rows_{}", self.suffix()),
            (DType::F32, DType::BF16) => "scatter_add_rows_bf16_to_f32".to_owned(),
            (to, from) => bail!("cannot add rows of {from:?} to a tensor of {to:?}"),
        };
        let arguments = [At(target), At(values), At(&lists[0]), At(&lists[1]), At(&lists[2]), Int(width)];
        self.launch_exactly(&kernel, grid, &arguments)
    }

    fn product(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let ((m, _), (_, n)) = (x.dims2()?, weight.dims2()?);
        let out = self.empty((m, n))?;
        self.multiply(x, weight, bias, None, &out)?;
        Ok(out)
    }

    fn add_product_into(&self, target: &Tensor, x: &Tensor, weight: &Tensor) -> Result<()> {
        self.multiply(x, weight, None, Some(target), target)
    }

    fn add_product(&self, base: &Tensor, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let sum = self.empty(base.dims2()?)?;
        self.multiply(x, weight, None, Some(base), &sum)?;
        Ok(sum)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
        let (rows, width) = x.dims2()?;
        let (y, inverse_rms) = (self.empty((rows, width))?, self.empty_f32(rows)?);
        let arguments = [At(&y), At(&inverse_rms), At(x), At(weight), Int(width), Float(eps)];
        self.launch("rms_norm_forward", Grid::of(rows, self.threads(width)), &arguments)?;
        Ok((y, inverse_rms))
    }

    fn rms_norm_backward_into(
        &self,
        dx: &Tensor,
        weight_gradient: &Tensor,
        dy: &Tensor,
        x: &Tensor,
        weight: &Tensor,
        inverse_rms: &Tensor,
    ) -> Result<()> {
        let (rows, width) = x.dims2()?;
        self.add_column_sums(weight_gradient, rows, |partials, chunks, per_chunk| {
            let grid = Grid { shared_bytes: width * size_of::<f32>(), ..Grid::of(chunks, self.threads(width)) };
            let tensors = [At(dx), At(partials), At(dy), At(x), At(weight), At(inverse_rms)];
            self.launch("rms_norm_backward", grid, &[&tensors[..], &[Int(rows), Int(width), Int(per_chunk)]].concat())
        })
    }

    fn rotate_in_place(&self, qkv: &Tensor, heads: Heads, rotation: &Rotation) -> Result<()> {
        check_positions(rotation)?;
        rotate(self, qkv, heads, rotation, 1.0)
    }

    fn rotate_back_in_place(&self, d_qkv: &Tensor, heads: Heads, rotation: &Rotation, bias_gradient: Option<&Tensor>) -> Result<()> {
        check_positions(rotation)?;
        let Some(gradient) = bias_gradient else { return rotate(self, d_qkv, heads, rotation, -1.0) };
        let Rotation { cos, sin, positions } = rotation;
        let (rotated, half) = (heads.query + heads.key_value, heads.width / 2);
        let (rows, heads) = (d_qkv.dim(0)?, rotated + heads.key_value);
        let pieces = heads * half.div_ceil(PAIRS);
        let threads = pieces.next_multiple_of(32).min(MAX_THREADS);
        self.add_column_sums(gradient, rows, |partials, chunks, per_chunk| {
            let grid = Grid { blocks: [pieces.div_ceil(threads), chunks, 1], threads, shared_bytes: 0 };
            let tensors = [At(d_qkv), At(partials), At(cos), At(sin), At(positions.on_device()?)];
            let sizes = [Int(rows), Int(rotated), Int(heads), Int(half), Int(per_chunk)];
            self.launch("rotate_back", grid, &[&tensors[..], &sizes].concat())
        })
    }

    fn attend_packed(&self, qkv: &Tensor, segments: &[Segment], heads: Heads) -> Result<(Tensor, Tensor)> {
        attention::packed(self, qkv, segments, heads)
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
        attention::packed_backward(self, d_out, out, log_sum_exp, qkv, segments, heads)
    }

    fn cache(&self, blocks: usize, heads: Heads) -> Result<LayerCache> {
        attention::cache(self, blocks, heads)
    }

    fn store(&self, cache: &LayerCache, qkv: &Tensor, slots: &Indices, heads: Heads) -> Result<()> {
        attention::store(self, cache, qkv, slots.on_device()?, heads)
    }

    fn copy_blocks(&self, cache: &LayerCache, pairs: &[(u32, u32)], heads: Heads) -> Result<()> {
        attention::copy_blocks(self, cache, pairs, heads)
    }

    fn attend_cached(&self, qkv: &Tensor, cache: &LayerCache, tables: &BlockTables, heads: Heads) -> Result<Tensor> {
        attention::cached(self, qkv, cache, tables.on_device()?, heads)
    }

    fn rotate_and_store_in_place(
        &self,
        qkv: &Tensor,
        heads: Heads,
        rotation: &Rotation,
        cache: &LayerCache,
        slots: &Indices,
    ) -> Result<()> {
        check_positions(rotation)?;
        attention::rotate_and_store(self, qkv, heads, rotation, cache, slots.on_device()?)
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
        let (a, b) = (Factor::of(x)?, Factor::of(&table.t()?)?);
        self.machine.product(&Product { a, b, bias: None, addend: None, out: &logits, forward: true })?;
        Ok(logits)
    }

    fn head_scores_in_place(&self, logits: &Tensor, targets: &[u32], temperature: f32) -> Result<RowScores> {
        head::scores(self, logits, targets, temperature)
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
        head::backward(self, logits, targets, temperature, scores, d_logprob, d_entropy)
    }

    fn sample(&self, logits: Tensor, limit: usize, params: &SamplingParams) -> Result<PendingSample> {
        head::sample(self, &logits, limit, params)
    }

    fn sample_with_mask(&self, logits: Tensor, limit: usize, params: &SamplingParams) -> Result<PendingSample> {
        head::sample_with_mask(self, &logits, limit, params)
    }

    fn mask_logits(&self, logits: Tensor, mask: &SamplingMask) -> Result<Tensor> {
        head::mask_in_place(self, &logits, mask)?;
        Ok(logits)
    }

    fn sum_of_squares(&self, gradient: &Tensor) -> Result<f64> {
        let count = gradient.elem_count();
        let chunks = count.div_ceil(SQUARES);
        let (partials, total) = (self.machine.empty(chunks.into(), DType::F64)?, self.machine.empty(1.into(), DType::F64)?);
        let arguments = [At(&partials), At(gradient), Long(count), Long(SQUARES)];
        self.launch_exactly("sum_of_squares", Grid::of(chunks, MAX_THREADS), &arguments)?;
        self.launch_exactly("sum_doubles", Grid::of(1, MAX_THREADS), &[At(&total), At(&partials), Int(chunks)])?;
        let [low, high] = self.machine.fetch(&total)?()?[..] else { bail!("the device returned a sum that is not one f64") };
        Ok(f64::from_bits(u64::from(high) << 32 | u64::from(low)))
    }

    fn adamw_in_place(&self, parameter: &Parameter, step: &Step) -> Result<()> {
        let Parameter { weight, master, moments, gradient } = *parameter;
        let master = master.unwrap_or(weight);
        let count = weight.elem_count();
        let factors = step.factors();
        let numbers = [
            factors.weight_decay_factor,
            factors.step_size,
            factors.beta1,
            factors.one_minus_beta1,
            factors.beta2,
            factors.one_minus_beta2,
            factors.bias_correction2_sqrt,
            step.eps,
            step.gradient_scale,
        ];
        // LoRA adapters are f32 whatever the model's dtype.
        let dtype = suffix(weight.dtype());
        match moments {
            Moments::Full { first, second } => {
                let arguments = [At(weight), At(master), At(first), At(second), At(gradient), Long(count), Floats(&numbers)];
                self.launch_exactly(&format!("adamw_{dtype}"), self.stride(count), &arguments)
            }
            Moments::Quantized { first, second } => {
                let [first_map, second_map] = &self.maps;
                let quantized = [At(&first.codes), At(&first.scales), At(&second.codes), At(&second.scales)];
                let read = [At(gradient), At(first_map), At(second_map), Long(count), Floats(&numbers), Unsigned(step.count as u32)];
                // A warp processes one quantization block at a time.
                let blocks = count.div_ceil(QUANTIZATION_BLOCK * MAX_THREADS / 32).min(MAX_BLOCKS);
                self.launch_exactly(
                    &format!("adamw_8bit_{dtype}"),
                    Grid::of(blocks, MAX_THREADS),
                    &[&[At(weight), At(master)], &quantized[..], &read].concat(),
                )
            }
        }
    }

    fn add_into(&self, target: &Tensor, source: &Tensor) -> Result<()> {
        let count = target.elem_count();
        self.launch_exactly("add_f32", self.stride(count), &[At(target), At(source), Long(count)])
    }

    fn clear(&self, target: &Tensor) -> Result<()> {
        copies::clear(self, target)
    }

    fn cast(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        copies::cast(self, x, dtype)
    }

    fn set(&self, target: &Tensor, source: &Tensor) -> Result<()> {
        copies::set(self, target, source)
    }

    fn columns(&self, matrix: &Tensor, columns: Range<usize>) -> Result<Tensor> {
        copies::columns(self, matrix, columns)
    }

    fn set_columns(&self, target: &Tensor, first: usize, source: &Tensor) -> Result<()> {
        copies::set_columns(self, target, first, source)
    }

    fn stack(&self, parts: &[&Tensor]) -> Result<Tensor> {
        copies::stack(self, parts)
    }

    fn scaled(&self, x: &Tensor, factor: f64) -> Result<Tensor> {
        copies::scaled(self, x, factor)
    }

    fn mix_in_place(&self, average: &Tensor, x: &Tensor, decay: f64) -> Result<()> {
        copies::mix_in_place(self, average, x, decay)
    }

    fn read(&self, x: &Tensor) -> Result<Vec<f32>> {
        let words = self.machine.fetch(&x.flatten_all()?)?()?;
        Ok(words.into_iter().map(f32::from_bits).collect())
    }

    fn run_pass(&self, step: &pass::Step, pass: &dyn Pass) -> Result<Tensor> {
        if (1..=graphs::MAX_SEQUENCES).contains(&step.counts.len()) {
            graphs::run(self, step, pass)
        } else {
            pass::run_eagerly(self, step, pass)
        }
    }
}
