//! The decode benchmark: forward passes with one token per sequence, from the embedding to the sampled token, over a cache that already
//! contains a given number of tokens. The engine runs such passes as long as no request starts or ends.

use anyhow::Result;

use super::Bench;
use crate::kernels::{BLOCK, Indices, PendingSample, SamplingParams};
use crate::model::Decoder;
use crate::model::decoder::Cache;
use crate::train::rollouts::sampling;

/// Rows of logits per sampling call, as in the engine on a GPU.
const LOGIT_ROWS: usize = 1024;

/// Sequences and their cache. All keys and values are zero, which does not affect the time.
pub(super) struct Decoding {
    cache: Cache,
    /// The cache blocks of each sequence. All sequences share the blocks that the prompt fills.
    tables: Vec<Vec<u32>>,
}

impl Bench<'_> {
    /// Allocates a cache for the prompt, a response of each length, and `passes` more tokens per sequence.
    pub(super) fn decoding(&self, passes: usize) -> Result<Decoding> {
        let shared = (self.prompt.ids.len() / BLOCK) as u32;
        let mut free = shared..;
        let table = |length: &usize| {
            let blocks = (self.prompt.ids.len() + length + passes).div_ceil(BLOCK) - shared as usize;
            (0..shared).chain(free.by_ref().take(blocks)).collect()
        };
        let tables = self.lengths.iter().map(table).collect();
        Ok(Decoding { cache: self.decoder.cache(free.start as usize)?, tables })
    }

    /// Runs `passes` passes. As in the engine, a pass starts before the host has read the tokens of the previous one.
    pub(super) fn decode(&self, decoder: &Decoder, decoding: &Decoding, passes: usize) -> Result<()> {
        let (kernels, sampling, rows) = (decoder.kernels(), sampling(self.settings), self.lengths.len());
        let tables: Vec<&[u32]> = decoding.tables.iter().map(Vec::as_slice).collect();
        let uniforms = vec![0.5; rows];
        let arbitrary: Vec<u32> = (0..rows).map(|row| (row * 31 % self.vocabulary) as u32).collect();
        let (mut newest, mut sampled) = (arbitrary, Vec::<PendingSample>::new());
        for pass in 0..passes {
            let counts: Vec<usize> = self.lengths.iter().map(|length| self.prompt.ids.len() + length + pass + 1).collect();
            let slot = |(table, count): (&&[u32], &usize)| table[(count - 1) / BLOCK] * BLOCK as u32 + ((count - 1) % BLOCK) as u32;
            let slots: Vec<u32> = tables.iter().zip(&counts).map(slot).collect();
            let on_device = sampled.iter().map(PendingSample::on_device).collect::<Option<Vec<_>>>().filter(|tokens| !tokens.is_empty());
            let tokens = match on_device.as_deref() {
                Some([tokens]) => Indices::Device((*tokens).clone()),
                Some(several) => Indices::Device(kernels.stack(several)?),
                None => kernels.indices(&newest)?,
            };
            let hidden = decoder.decode(&tokens, &counts, &tables, &slots, &decoding.cache)?;
            let mut next = Vec::new();
            for first in (0..rows).step_by(LOGIT_ROWS) {
                let chunk: Vec<u32> = (first..rows.min(first + LOGIT_ROWS)).map(|row| row as u32).collect();
                let params =
                    SamplingParams { temperature: sampling.temperature, filter: sampling.filter, uniforms: &uniforms[..chunk.len()] };
                next.push(kernels.sample(decoder.logits(&hidden, &chunk)?, decoder.config.vocabulary, &params)?);
            }
            drop(on_device);
            let before = std::mem::replace(&mut sampled, next);
            read(before)?;
            if sampled.iter().any(|sample| sample.on_device().is_none()) {
                newest = read(std::mem::take(&mut sampled))?;
            }
        }
        read(sampled).map(|_| ())
    }
}

/// Waits for the sampled tokens and returns them.
fn read(sampled: Vec<PendingSample>) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    for sample in sampled {
        tokens.extend(sample.read()?.tokens);
    }
    Ok(tokens)
}
