//! Moves tensors between ranks: through the hosts in messages of several tensors, or, if NCCL connects the GPUs, from GPU to GPU.

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Shape, Tensor};

use crate::dist::{DeviceCommunicator, DeviceSlice, World};
use crate::kernels::{Kernels, device_slice, on_host};

/// On the hosts, tensors travel together in messages of about this size, in bytes. Between GPUs, a tensor travels in pieces of at most this
/// size, since a piece that is received needs memory beside the tensor.
const MESSAGE_BYTES: usize = 64 << 20;

/// Returns the host memory that the exchange of gradients between two ranks needs at most, in bytes, for tensors with these numbers of
/// elements: the message sent, the message received, and a copy of a tensor of each.
pub fn exchange_bytes(elements: &[usize]) -> u64 {
    let bytes = |elements: usize| elements * size_of::<f32>();
    let largest = bytes(elements.iter().max().copied().unwrap_or(0));
    let message = (MESSAGE_BYTES + largest).min(bytes(elements.iter().sum()));
    2 * (message + largest) as u64
}

/// Sends the tensors `sent` to the rank `peer`, and adds what it sends to the tensors `kept`. The peer calls this with the two exchanged.
///
/// # Errors
/// If the device or the connection fails.
pub fn add_from(world: &World, kernels: &dyn Kernels, peer: usize, kept: &[&Tensor], sent: &[&Tensor]) -> Result<()> {
    match gpus(world, kernels) {
        Some(gpus) => add_from_gpu(gpus, kernels, peer, kept, sent),
        None => add_from_host(world, kernels, peer, kept, sent),
    }
}

fn add_from_host(world: &World, kernels: &dyn Kernels, peer: usize, kept: &[&Tensor], sent: &[&Tensor]) -> Result<()> {
    let (kept, sent) = (messages(kept), messages(sent));
    for number in 0..kept.len().max(sent.len()) {
        let (kept, sent) = (kept.get(number).map_or(&[][..], Vec::as_slice), sent.get(number).map_or(&[][..], Vec::as_slice));
        let mut received = vec![0; kept.iter().copied().map(size).sum()];
        world.communicator().exchange(peer, &bytes(sent)?, &mut received)?;
        unpack(&received, kept, |target, part| Ok(kernels.add_into(target, &part.to_device(target.device())?)?))?;
    }
    Ok(())
}

fn add_from_gpu(gpus: &dyn DeviceCommunicator, kernels: &dyn Kernels, peer: usize, kept: &[&Tensor], sent: &[&Tensor]) -> Result<()> {
    let (kept, sent) = (pieces(kept)?, pieces(sent)?);
    for number in 0..kept.len().max(sent.len()) {
        let (kept, sent) = (kept.get(number), sent.get(number));
        let received = kept.map(|kept| kept.zeros_like()).transpose()?;
        let slices = (sent.map(slice).transpose()?, received.as_ref().map(slice).transpose()?);
        match slices {
            (Some(send), Some(receive)) => gpus.exchange_device(peer, send, receive)?,
            (Some(send), None) => gpus.exchange_device(peer, send, send.empty())?,
            (None, Some(receive)) => gpus.exchange_device(peer, receive.empty(), receive)?,
            (None, None) => {}
        }
        if let (Some(kept), Some(received)) = (kept, &received) {
            kernels.add_into(kept, received)?;
        }
    }
    Ok(())
}

/// Copies `tensors` of the rank `owner` to those of all ranks.
///
/// # Errors
/// If the device or the connection fails.
pub fn copy_from(world: &World, kernels: &dyn Kernels, owner: usize, tensors: &[&Tensor]) -> Result<()> {
    if let Some(gpus) = gpus(world, kernels) {
        return tensors.iter().try_for_each(|tensor| gpus.broadcast_device(owner, slice(tensor)?));
    }
    for message in messages(tensors) {
        let is_own = owner == world.rank();
        let mut buffer = if is_own { bytes(&message)? } else { vec![0; message.iter().copied().map(size).sum()] };
        world.communicator().broadcast(owner, &mut buffer)?;
        if !is_own {
            unpack(&buffer, &message, |target, part| Ok(kernels.set(target, &part)?))?;
        }
    }
    Ok(())
}

/// Sends a tensor (f32 or u8) to a rank, which [`receive`]s it. Both use pieces of at most [`MESSAGE_BYTES`].
///
/// # Errors
/// If the device or the connection fails.
pub fn send(world: &World, to: usize, tensor: &Tensor) -> Result<()> {
    let flat = on_host(tensor)?.flatten_all()?;
    let (count, each) = (flat.elem_count(), MESSAGE_BYTES / flat.dtype().size_in_bytes());
    for first in (0..count).step_by(each) {
        let piece = flat.narrow(0, first, each.min(count - first))?;
        world.communicator().exchange(to, &bytes(&[&piece])?, &mut [])?;
    }
    Ok(())
}

/// Returns the tensor that a rank [`send`]s, on the host.
///
/// # Errors
/// If the connection fails, or it is a tensor of another dtype.
pub fn receive(world: &World, from: usize, dtype: DType, shape: &Shape) -> Result<Tensor> {
    let count = shape.elem_count();
    let pieces = |take: &mut dyn FnMut(&[u8])| -> Result<()> {
        let (bytes, mut buffer) = (count * dtype.size_in_bytes(), Vec::new());
        for first in (0..bytes).step_by(MESSAGE_BYTES) {
            buffer.resize(MESSAGE_BYTES.min(bytes - first), 0);
            world.communicator().exchange(from, &[], &mut buffer)?;
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

/// Returns the connection between the GPUs, if there is one and the kernels compute on a GPU.
fn gpus<'a>(world: &'a World, kernels: &dyn Kernels) -> Option<&'a dyn DeviceCommunicator> {
    world.communicator().device().filter(|_| !kernels.device().is_cpu())
}

/// Cuts tensors into pieces of at most [`MESSAGE_BYTES`], which share their memory.
fn pieces(tensors: &[&Tensor]) -> Result<Vec<Tensor>> {
    let mut pieces = Vec::new();
    for tensor in tensors {
        let (flat, room) = (tensor.flatten_all()?, MESSAGE_BYTES / tensor.dtype().size_in_bytes());
        for start in (0..flat.elem_count()).step_by(room) {
            pieces.push(flat.narrow(0, start, room.min(flat.elem_count() - start))?);
        }
    }
    Ok(pieces)
}

fn slice(tensor: &Tensor) -> Result<DeviceSlice> {
    device_slice(tensor)?.context("a tensor that travels between GPUs is on the host")
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
    fn pieces_share_the_memory_of_tensors() {
        let count = MESSAGE_BYTES / 4 + 3;
        let tensor = cpu::tensor(vec![1.0; count], (1, count)).unwrap();
        let pieces = pieces(&[&tensor, &cpu::tensor(vec![0.0; 6], (2, 3)).unwrap()]).unwrap();
        assert_eq!(pieces.iter().map(Tensor::elem_count).collect::<Vec<_>>(), [count - 3, 3, 6]);
        let two = cpu::tensor(vec![1.0; 3], 3).unwrap();
        Cpu.add_into(&pieces[1], &two).unwrap();
        assert_eq!(tensor.sum_all().unwrap().to_scalar::<f32>().unwrap(), (count + 3) as f32);
    }

    #[test]
    fn receive_returns_what_send_sent_in_several_pieces() {
        let count = MESSAGE_BYTES / 4 + 3;
        let tensors = [
            cpu::tensor((0..count).map(|index| index as f32).collect(), count).unwrap(),
            Tensor::new(&[[7u8, 0], [255, 1]], &Device::Cpu).unwrap(),
        ];
        let received = threads::run(2, |world| {
            let pass = |tensor: &Tensor| match world.rank() {
                0 => receive(&world, 1, tensor.dtype(), tensor.shape()).unwrap(),
                _ => send(&world, 0, tensor).map(|()| tensor.clone()).unwrap(),
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
