//! The decode benchmark: passes of one token per sequence, from the embedding to the sampled token, against a cache filled to a given
//! context length. It runs what the engine runs between two admissions: no prompt is computed, and no request ends.

use anyhow::Result;

use super::Bench;
use crate::kernels::{BLOCK, Indices, PendingSample, SamplingParams};
use crate::model::Decoder;
use crate::model::decoder::Cache;
use crate::train::rollouts::sampling;

/// Rows of logits per sampling call, as in the engine on a GPU.
const LOGIT_ROWS: usize = 1024;

/// Sequences in a cache. Its keys and values are zeros, which does not affect the time.
pub(super) struct Decoding {
    cache: Cache,
    /// The blocks of each sequence. Blocks that the prompt fills are shared.
    tables: Vec<Vec<u32>>,
}

impl Bench<'_> {
    /// Allocates a cache for the prompt, each sequence's length and `passes` more tokens.
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

    /// Runs the passes. As in the engine, a pass starts before the host has read the tokens of the previous one.
    pub(super) fn decode(&self, decoder: &Decoder, decoding: &Decoding, passes: usize) -> Result<()> {
        let (kernels, sampling, rows) = (decoder.kernels(), sampling(self.settings), self.lengths.len());
        let tables: Vec<&[u32]> = decoding.tables.iter().map(Vec::as_slice).collect();
        let uniforms = vec![0.5; rows];
        let arbitrary: Vec<u32> = (0..rows).map(|row| (row * 31 % self.vocabulary) as u32).collect();
        let (mut newest, mut chosen) = (arbitrary, Vec::<PendingSample>::new());
        for pass in 0..passes {
            let counts: Vec<usize> = self.lengths.iter().map(|length| self.prompt.ids.len() + length + pass + 1).collect();
            let slot = |(table, count): (&&[u32], &usize)| table[(count - 1) / BLOCK] * BLOCK as u32 + ((count - 1) % BLOCK) as u32;
            let slots: Vec<u32> = tables.iter().zip(&counts).map(slot).collect();
            let on_device = chosen.iter().map(PendingSample::on_device).collect::<Option<Vec<_>>>().filter(|tokens| !tokens.is_empty());
            let tokens = match on_device.as_deref() {
                Some([tokens]) => Indices::Device((*tokens).clone()),
                Some(several) => Indices::Device(kernels.stack(several)?),
                None => kernels.indices(&newest)?,
            };
            let hidden = decoder.decode(&tokens, &counts, &tables, &slots, &decoding.cache)?;
            let mut next = Vec::new();
            for first in (0..rows).step_by(LOGIT_ROWS) {
                let chunk: Vec<u32> = (first..rows.min(first + LOGIT_ROWS)).map(|row| row as u32).collect();
                let choice =
                    SamplingParams { temperature: sampling.temperature, filter: sampling.filter, uniforms: &uniforms[..chunk.len()] };
                next.push(kernels.sample(decoder.logits(&hidden, &chunk)?, decoder.config.vocabulary, &choice)?);
            }
            drop(on_device);
            let before = std::mem::replace(&mut chosen, next);
            read(before)?;
            if chosen.iter().any(|chosen| chosen.on_device().is_none()) {
                newest = read(std::mem::take(&mut chosen))?;
            }
        }
        read(chosen).map(|_| ())
    }
}

/// Reads the sampled tokens.
fn read(chosen: Vec<PendingSample>) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    for chosen in chosen {
        tokens.extend(chosen.read()?.tokens);
    }
    Ok(tokens)
}
