//! Divides the trained parameters among the ranks of a run, by whole tensors (ZeRO stage 1, Rajbhandari et al. 2020). The owner of a tensor
//! holds its optimizer state, adds up its gradient over the ranks, and sends the updated weights to the others.

use std::cmp::Reverse;
use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Shape, Tensor};

use crate::dist::World;
use crate::kernels::{Kernels, on_host};

/// Tensors travel together in messages of about this size, in bytes.
const MESSAGE_BYTES: usize = 64 << 20;

/// Which rank owns each trained parameter.
#[derive(Clone, Debug)]
pub struct Owners {
    world: World,
    /// The names of the parameters and their owners, in the order of the parameters.
    owners: Vec<(String, usize)>,
}

impl Owners {
    /// Assigns parameters with these names and numbers of elements: the largest first, each to the rank with the fewest elements.
    pub fn new(world: &World, parameters: Vec<(String, usize)>) -> Self {
        let mut order: Vec<usize> = (0..parameters.len()).collect();
        order.sort_by_key(|index| Reverse(parameters[*index].1));
        let (mut elements, mut owners) = (vec![0; world.size()], vec![0; parameters.len()]);
        for index in order {
            let owner = (0..elements.len()).min_by_key(|rank| elements[*rank]).unwrap_or(0);
            elements[owner] += parameters[index].1;
            owners[index] = owner;
        }
        Self { world: world.clone(), owners: parameters.into_iter().map(|(name, _)| name).zip(owners).collect() }
    }

    /// The ranks.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Returns true if this rank owns the parameter.
    pub fn owns(&self, name: &str) -> bool {
        self.owners.iter().any(|(owned, rank)| owned == name && *rank == self.world.rank())
    }

    /// Returns the names of all parameters and their owners, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, usize)> {
        self.owners.iter().map(|(name, rank)| (name.as_str(), *rank))
    }

    /// Returns the numbers of all parameters in order, with their names, to every rank. `own` has those of this rank's parameters.
    pub(super) fn collect(&self, own: Vec<f64>) -> Result<Vec<(&str, f64)>> {
        let mut gathered: Vec<_> = self.world.gather(own)?.into_iter().map(Vec::into_iter).collect();
        self.iter().map(|(name, owner)| Ok((name, gathered[owner].next().with_context(|| format!("no number for {name}"))?))).collect()
    }

    /// Adds up `gradients` (f32) over the ranks; each rank gets the sums of its own parameters, and parts of the others.
    ///
    /// Ranks exchange tensors in pairs at distance 1, then 2, 4 and so on, so that sums form a binary tree over the ranks, whatever their
    /// number. A tensor goes to the partner if its owner lies on the partner's side.
    ///
    /// # Errors
    /// If the number of ranks is not a power of two, a parameter has no gradient, or the device or the connection fails.
    pub fn add_over_ranks(&self, kernels: &dyn Kernels, gradients: &HashMap<&str, &Tensor>) -> Result<()> {
        let (rank, ranks) = (self.world.rank(), self.world.size());
        ensure!(ranks.is_power_of_two(), "gradients cannot be added over {ranks} ranks: their number must be a power of two");
        for distance in (0..ranks.ilog2()).map(|level| 1 << level) {
            // The tensors that both partners still hold are those whose owners agree with them at all smaller distances.
            let held = self.iter().filter(|(_, owner)| owner % distance == rank % distance);
            let (kept, sent): (Vec<_>, Vec<_>) = held.partition(|(_, owner)| owner & distance == rank & distance);
            let tensors = |side: Vec<(&str, usize)>| -> Result<Vec<&Tensor>> {
                side.into_iter().map(|(name, _)| gradients.get(name).copied().with_context(|| format!("{name} has no gradient"))).collect()
            };
            let (kept, sent) = (messages(&tensors(kept)?), messages(&tensors(sent)?));
            for number in 0..kept.len().max(sent.len()) {
                let (kept, sent) = (kept.get(number).map_or(&[][..], Vec::as_slice), sent.get(number).map_or(&[][..], Vec::as_slice));
                let mut received = vec![0; kept.iter().copied().map(size).sum()];
                self.world.communicator().exchange(rank ^ distance, &bytes(sent)?, &mut received)?;
                unpack(&received, kept, |target, part| Ok(kernels.add_into(target, &part.to_device(target.device())?)?))?;
            }
        }
        Ok(())
    }

    /// Copies each of the `parameters` from its owner to all other ranks.
    ///
    /// # Errors
    /// If a parameter is missing, or the device or the connection fails.
    pub fn spread(&self, kernels: &dyn Kernels, parameters: &HashMap<&str, &Tensor>) -> Result<()> {
        if self.world.size() == 1 {
            return Ok(());
        }
        for owner in 0..self.world.size() {
            let owned = self.iter().filter(|(_, rank)| *rank == owner);
            let owned = owned.map(|(name, _)| parameters.get(name).copied().with_context(|| format!("{name} has no weight")));
            for message in messages(&owned.collect::<Result<Vec<_>>>()?) {
                let is_own = owner == self.world.rank();
                let mut buffer = if is_own { bytes(&message)? } else { vec![0; message.iter().copied().map(size).sum()] };
                self.world.communicator().broadcast(owner, &mut buffer)?;
                if !is_own {
                    unpack(&buffer, &message, |target, part| Ok(kernels.set(target, &part)?))?;
                }
            }
        }
        Ok(())
    }

    /// Sends a tensor (f32 or u8) to a rank, which [`receive`](Self::receive)s it. Both send it in pieces of [`MESSAGE_BYTES`].
    pub(super) fn send(&self, to: usize, tensor: &Tensor) -> Result<()> {
        let flat = on_host(tensor)?.flatten_all()?;
        let (count, each) = (flat.elem_count(), MESSAGE_BYTES / flat.dtype().size_in_bytes());
        for first in (0..count).step_by(each) {
            let piece = flat.narrow(0, first, each.min(count - first))?;
            self.world.communicator().exchange(to, &bytes(&[&piece])?, &mut [])?;
        }
        Ok(())
    }

    /// Returns the tensor that a rank [`send`](Self::send)s, on the host.
    pub(super) fn receive(&self, from: usize, dtype: DType, shape: &Shape) -> Result<Tensor> {
        let count = shape.elem_count();
        let pieces = |take: &mut dyn FnMut(&[u8])| -> Result<()> {
            let (bytes, mut buffer) = (count * dtype.size_in_bytes(), Vec::new());
            for first in (0..bytes).step_by(MESSAGE_BYTES) {
                buffer.resize(MESSAGE_BYTES.min(bytes - first), 0);
                self.world.communicator().exchange(from, &[], &mut buffer)?;
                take(&buffer);
            }
            Ok(())
        };
        Ok(match dtype {
            DType::U8 => {
                let mut values: Vec<u8> = Vec::with_capacity(count);
                pieces(&mut |piece| values.extend(piece))?;
                Tensor::from_vec(values, shape, &Device::Cpu)?
            }
            DType::F32 => {
                let mut values: Vec<f32> = Vec::with_capacity(count);
                pieces(&mut |piece| values.extend(piece.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))))?;
                Tensor::from_vec(values, shape, &Device::Cpu)?
            }
            other => bail!("a tensor of {other:?} cannot be received, only of F32 or U8"),
        })
    }
}

/// The size of a tensor, in bytes.
fn size(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

/// Groups neighboring tensors into messages, each at least [`MESSAGE_BYTES`] long except for the last.
fn messages<'a>(tensors: &[&'a Tensor]) -> Vec<Vec<&'a Tensor>> {
    let (mut messages, mut bytes) = (Vec::new(), MESSAGE_BYTES);
    for tensor in tensors {
        if bytes >= MESSAGE_BYTES {
            messages.push(Vec::new());
            bytes = 0;
        }
        bytes += size(tensor);
        messages.last_mut().into_iter().for_each(|message: &mut Vec<_>| message.push(*tensor));
    }
    messages
}

/// Returns the bytes of tensors, one after the other, in little-endian order.
fn bytes(tensors: &[&Tensor]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(tensors.iter().copied().map(size).sum());
    for tensor in tensors {
        let flat = on_host(tensor)?.flatten_all()?;
        match flat.dtype() {
            DType::U8 => bytes.extend(flat.to_vec1::<u8>()?),
            DType::BF16 => bytes.extend(flat.to_vec1::<half::bf16>()?.iter().flat_map(|value| value.to_le_bytes())),
            _ => bytes.extend(flat.to_vec1::<f32>()?.iter().flat_map(|value| value.to_le_bytes())),
        }
    }
    Ok(bytes)
}

/// Calls `take` with each of the `targets` and its values in `bytes`, which are on the host.
fn unpack(bytes: &[u8], targets: &[&Tensor], take: impl Fn(&Tensor, Tensor) -> Result<()>) -> Result<()> {
    let mut rest = bytes;
    for target in targets {
        let (own, after) = rest.split_at(size(target));
        take(target, Tensor::from_raw_buffer(own, target.dtype(), target.dims(), &Device::Cpu)?)?;
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::threads;
    use crate::kernels::{Cpu, cpu};

    #[test]
    fn new_gives_the_largest_tensor_to_the_emptiest_rank() {
        let sizes = [10, 7, 5, 1].into_iter().enumerate().map(|(index, size)| (index.to_string(), size)).collect::<Vec<_>>();
        let owners = threads::run(2, |world| Owners::new(&world, sizes.clone()).iter().map(|(_, owner)| owner).collect::<Vec<_>>());
        assert_eq!(owners, [[0, 1, 1, 0], [0, 1, 1, 0]]);
    }

    #[test]
    fn add_over_ranks_sums_pairs_first_and_spread_sends_the_sums_to_all() {
        // In f32, the order of these sums matters: a chain from the left would give 1.
        let parts = [1e8f32, 1.0, -1e8, 1.0];
        let expected = (parts[0] + parts[1]) + (parts[2] + parts[3]);
        assert_ne!(expected, ((parts[0] + parts[1]) + parts[2]) + parts[3]);
        let names = ["a", "b", "c", "d", "e"];
        let found = threads::run(4, |world| {
            let owners = Owners::new(&world, names.iter().map(|name| ((*name).to_owned(), 3)).collect());
            let tensors = names.map(|_| cpu::tensor(vec![parts[world.rank()]; 3], 3).unwrap());
            let by_name: HashMap<&str, &Tensor> = names.into_iter().zip(&tensors).collect();
            owners.add_over_ranks(&Cpu, &by_name).unwrap();
            let sums = owners.iter().filter(|(name, _)| owners.owns(name)).map(|(name, _)| by_name[name].to_vec1::<f32>().unwrap());
            assert!(sums.flatten().all(|sum| sum == expected));
            owners.spread(&Cpu, &by_name).unwrap();
            tensors.map(|tensor| tensor.to_vec1::<f32>().unwrap())
        });
        assert_eq!(found, vec![names.map(|_| vec![expected; 3]); 4]);
    }

    #[test]
    fn receive_returns_what_send_sent_in_several_pieces() {
        let count = MESSAGE_BYTES / 4 + 3;
        let tensors = [
            cpu::tensor((0..count).map(|index| index as f32).collect(), count).unwrap(),
            Tensor::new(&[[7u8, 0], [255, 1]], &Device::Cpu).unwrap(),
        ];
        let received = threads::run(2, |world| {
            let owners = Owners::new(&world, Vec::new());
            let pass = |tensor: &Tensor| match world.rank() {
                0 => owners.receive(1, tensor.dtype(), tensor.shape()).unwrap(),
                _ => owners.send(0, tensor).map(|()| tensor.clone()).unwrap(),
            };
            tensors.each_ref().map(pass)
        });
        let [numbers, codes] = &received[0];
        assert_eq!((numbers.dims(), codes.dims()), (tensors[0].dims(), tensors[1].dims()));
        assert!(numbers.to_vec1::<f32>().unwrap() == tensors[0].to_vec1::<f32>().unwrap());
        assert_eq!(codes.to_vec2::<u8>().unwrap(), [[7, 0], [255, 1]]);
    }

    #[test]
    fn messages_group_tensors_in_order() {
        let tensors: Vec<Tensor> = [1, MESSAGE_BYTES / 4, 2, 3].map(|count| cpu::tensor(vec![0.0; count], count).unwrap()).into();
        let grouped = messages(&tensors.iter().collect::<Vec<_>>());
        assert_eq!(grouped.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    }
}
