//! Tests whose ranks are processes with a GPU each. `scripts/check_nccl.sh` starts them with the variables that torchrun sets.
#![allow(clippy::unwrap_used)] // a test that cannot continue has failed

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr};

use super::communicator::{Nccl, join};
use super::staging::ROOM;
use super::unique_id::Meeting;
use crate::dist::{Communicator, DeviceSlice, threads};

fn number(variable: &str) -> usize {
    let value = std::env::var(variable).unwrap_or_else(|_| panic!("scripts/check_nccl.sh sets {variable}"));
    value.parse().unwrap()
}

fn join_by_torchruns_variables() -> Nccl {
    let meeting = Meeting::at(&std::env::var("MASTER_ADDR").unwrap(), number("MASTER_PORT") as u16);
    join(number("RANK"), number("WORLD_SIZE"), &meeting, number("LOCAL_RANK")).unwrap()
}

/// Bytes that differ by rank, by the exchange's number, and by place.
fn bytes(rank: usize, exchange: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251 + rank * 97 + exchange * 13) as u8).collect()
}

/// Each rank meets each other one; a rank sends another number of bytes than it receives.
fn check_exchange(link: &Nccl) {
    for distance in (1..link.world()).filter(|distance| distance.is_power_of_two()) {
        let peer = link.rank() ^ distance;
        for (exchange, length) in [0, 1, 5_003, ROOM / 2, ROOM + 17].into_iter().enumerate() {
            let length_of = |rank: usize| length * (rank % 2) + rank;
            let mut received = vec![0; length_of(peer)];
            link.exchange(peer, &bytes(link.rank(), exchange, length_of(link.rank())), &mut received).unwrap();
            assert!(received == bytes(peer, exchange, length_of(peer)), "exchange of {length} bytes with rank {peer}");
        }
    }
    let mut own = [0; 3];
    link.exchange(link.rank(), &[7, 8, 9], &mut own).unwrap();
    assert_eq!(own, [7, 8, 9]);
    assert!(link.exchange(link.world(), &[], &mut []).is_err());
}

fn check_broadcast(link: &Nccl) {
    for root in 0..link.world() {
        for (exchange, length) in [0, 1, 4_097, ROOM + 5].into_iter().enumerate() {
            let mut buffer = bytes(link.rank(), exchange, length);
            link.broadcast(root, &mut buffer).unwrap();
            assert!(buffer == bytes(root, exchange, length), "broadcast of {length} bytes from rank {root}");
        }
    }
}

fn check_gather(link: &Nccl) {
    for length in [0, 1, 1_000, ROOM / 2 + 3] {
        let length_of = |rank: usize| length * rank;
        let gathered = link.gather(&bytes(link.rank(), 2, length_of(link.rank()))).unwrap();
        assert_eq!(gathered.len(), link.world());
        for (rank, found) in gathered.iter().enumerate() {
            assert!(*found == bytes(rank, 2, length_of(rank)), "gathering {length} bytes from rank {rank}");
        }
    }
}

/// A buffer of device memory with these bytes, and its description.
fn on_device(stream: &Arc<CudaStream>, bytes: &[u8]) -> (CudaSlice<u8>, DeviceSlice) {
    let memory = stream.clone_htod(bytes).unwrap();
    let address = memory.device_ptr(stream).0;
    // SAFETY: the callers wait for the stream before they drop the memory.
    #[allow(unsafe_code)]
    let slice = unsafe { DeviceSlice::new(address, bytes.len(), stream.cu_stream() as u64) };
    (memory, slice)
}

/// Needs another rank. Starts many calls in the streams of the buffers, between calls for bytes of the host, and waits only at the end.
fn check_device(link: &Nccl) {
    let context = CudaContext::new(number("LOCAL_RANK")).unwrap();
    let streams = [context.new_stream().unwrap(), context.new_stream().unwrap()];
    let (device, peer, length) = (link.device().unwrap(), link.rank() ^ 1, 100_003);
    let mut started = Vec::new();
    for exchange in 0..8 {
        let stream = &streams[exchange % 2];
        let (sent, send) = on_device(stream, &bytes(link.rank(), exchange, length));
        let (received, receive) = on_device(stream, &vec![0; length]);
        let (shared, broadcast) = on_device(stream, &bytes(link.rank(), exchange + 100, length));
        device.exchange_device(peer, send, receive).unwrap();
        link.gather(&[1]).unwrap();
        device.broadcast_device(exchange % link.world(), broadcast).unwrap();
        started.push((exchange, sent, received, shared));
    }
    for (exchange, sent, received, shared) in started {
        let stream = &streams[exchange % 2];
        let host = |memory: &CudaSlice<u8>| {
            let host = stream.clone_dtoh(memory).unwrap();
            stream.synchronize().unwrap();
            host
        };
        assert!(host(&received) == bytes(peer, exchange, length), "exchange {exchange} with rank {peer}");
        assert!(host(&shared) == bytes(exchange % link.world(), exchange + 100, length), "broadcast {exchange}");
        assert!(host(&sent) == bytes(link.rank(), exchange, length), "what was sent has changed");
    }
}

#[test]
#[ignore = "scripts/check_nccl.sh starts its ranks"]
fn ranks_exchange_broadcast_and_gather() {
    let link = join_by_torchruns_variables();
    assert_eq!((link.rank(), link.world()), (number("RANK"), number("WORLD_SIZE")));
    check_exchange(&link);
    check_broadcast(&link);
    check_gather(&link);
    if link.world() > 1 {
        check_device(&link);
    }
    link.finish().unwrap();
}

/// The ranks are threads that are connected already. Each has a GPU.
#[test]
#[ignore = "scripts/check_nccl.sh provides NCCL"]
fn ranks_meet_through_a_communicator() {
    std::thread::scope(|scope| {
        for thread in threads::ranks(2) {
            scope.spawn(move || {
                let (rank, world) = (thread.rank(), thread.world());
                let link = join(rank, world, &Meeting::Through(Arc::new(thread)), rank).unwrap();
                check_exchange(&link);
                check_gather(&link);
                link.finish().unwrap();
            });
        }
    });
}

/// The other ranks then fail, or their watchdog ends them: that depends on what NCCL does.
#[test]
#[ignore = "scripts/check_nccl.sh starts its ranks"]
fn a_rank_ends() {
    let link = join_by_torchruns_variables();
    link.gather(&[1]).unwrap();
    if link.rank() == 1 {
        std::process::abort();
    }
    let error = link.gather(&[2]).unwrap_err().to_string();
    assert!(error.starts_with("NCCL reports \"remote process exited or there was a network error\" for ncclAllGather: rank 1"), "{error}");
}
