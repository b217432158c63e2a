//! A rank that is connected by NCCL. Bytes of the host pass through the device; bytes on the device travel in the stream that uses them.

use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail, ensure};
use candle_core::cuda_backend::cudarc::driver::sys::{CUevent, CUstream};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, result};

use super::abi::{Buffer, Handle};
use super::library::Library;
use super::pieces::{parts, rounds};
use super::staging::{ROOM, Staging};
use super::unique_id::Meeting;
use super::watchdog::{Calls, Watch, start, timeout};
use crate::dist::{Communicator, DeviceCommunicator, DeviceSlice};
use crate::output::print_error;

/// The part of the staging buffer that is sent, and then the part that is received.
const HALF: usize = ROOM / 2;

/// A rank that is connected by NCCL.
pub struct Nccl {
    rank: usize,
    world: usize,
    library: &'static Library,
    handle: Handle,
    /// Ranks make one call at a time. The buffer is for bytes of the host.
    staging: Mutex<Staging>,
    context: Arc<CudaContext>,
    calls: Arc<Calls>,
    /// What connected the ranks before, and ends them.
    launcher: Option<Arc<dyn Communicator>>,
}

/// Connects this rank, which computes on the GPU `device`, with the others. Returns when all ranks have called it.
///
/// Call it at the start of the program (see [`Meeting::unique_id`]). From now on a watchdog ends the process if NCCL makes no progress.
///
/// # Errors
/// If NCCL is not installed or refuses, there is no such GPU, or `RLVR_NCCL_TIMEOUT` is wrong.
pub fn join(rank: usize, world: usize, meeting: &Meeting, device: usize) -> Result<Nccl> {
    ensure!(rank < world && i32::try_from(world).is_ok(), "there is no rank {rank} among {world}");
    let (library, timeout) = (Library::load()?, timeout()?);
    let context = CudaContext::new(device)?;
    let launcher = match meeting {
        Meeting::Through(communicator) => Some(communicator.clone()),
        Meeting::Address(_) => None,
    };
    let id = meeting.unique_id(library)?;
    let staging = Mutex::new(Staging::new(&context)?);
    let calls = Arc::new(Calls::default());
    let reporter = launcher.clone();
    start(calls.clone(), Watch::new(rank, world, timeout), move |reason| {
        print_error(reason);
        end_all(reporter.as_deref(), 1)
    })?;
    // NCCL uses the GPU of the current context.
    context.bind_to_thread()?;
    calls.start(format!("waits for the other ranks to join {meeting:?}"));
    let joined = library.join(id, rank, world);
    calls.end();
    let handle = joined.inspect_err(|_| calls.close())?;
    calls.ask(Box::new(move || library.failure(handle)));
    Ok(Nccl { rank, world, library, handle, staging, context, calls, launcher })
}

impl Nccl {
    /// Makes a call whose bytes pass through the staging buffer, while the watchdog knows what it does.
    fn staged<T>(&self, what: String, work: impl FnOnce(&mut Staging) -> Result<T>) -> Result<T> {
        self.context.bind_to_thread()?;
        let mut staging = self.turn();
        self.calls.start(what);
        let outcome = work(&mut staging);
        self.calls.end();
        outcome
    }

    /// Makes a call whose bytes are on the device. The watchdog knows what it does until the work in the stream has ended.
    fn in_stream(&self, what: String, stream: u64, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.context.bind_to_thread()?;
        let _turn = self.turn();
        self.calls.start(what);
        let started = work().and_then(|()| self.ended_in(stream));
        if started.is_err() {
            self.calls.end();
        }
        started.map(|is_done| self.calls.go_on(is_done))
    }

    /// Returns a function that tells whether the work that is now in a stream has ended. If the device has failed, the thread that uses it
    /// finds out itself.
    fn ended_in(&self, stream: u64) -> Result<Box<dyn Fn() -> bool + Send>> {
        let event = self.context.new_event(None)?;
        let (recorded, stream): (CUevent, CUstream) = (event.cu_event(), stream as CUstream);
        // SAFETY: the event is new, and `DeviceSlice` describes a stream that exists.
        #[allow(unsafe_code)]
        unsafe { result::event::record(recorded, stream) }?;
        // The watchdog's thread asks.
        Ok(Box::new(move || event.context().bind_to_thread().is_err() || event.try_is_complete().unwrap_or(true)))
    }

    fn turn(&self) -> MutexGuard<'_, Staging> {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send_and_receive(&self, peer: usize, send: Buffer, receive: Buffer) -> Result<()> {
        self.library.together(|| {
            if send.bytes > 0 {
                self.library.send(self.handle, peer, send)?;
            }
            if receive.bytes > 0 {
                self.library.receive(self.handle, peer, receive)?;
            }
            Ok(())
        })
    }

    fn is_rank(&self, peer: usize) -> Result<()> {
        ensure!(peer < self.world, "there is no rank {peer} among {}", self.world);
        Ok(())
    }

    /// Returns one number of every rank, in rank order.
    fn gather_lengths(&self, staging: &mut Staging, own: usize) -> Result<Vec<usize>> {
        const WIDTH: usize = size_of::<u64>();
        staging.upload(self.rank * WIDTH, &(own as u64).to_le_bytes())?;
        self.library.all_gather(self.handle, self.rank, WIDTH, staging.part(0..self.world * WIDTH))?;
        let mut bytes = vec![0; self.world * WIDTH];
        staging.download(0, &mut bytes)?;
        Ok(bytes.as_chunks::<WIDTH>().0.iter().map(|length| u64::from_le_bytes(*length) as usize).collect())
    }

    /// Fills `all`, a range of the bytes of all ranks one after the other.
    fn gather_range(&self, staging: &mut Staging, lengths: &[usize], range: Range<usize>, own: &[u8], all: &mut [u8]) -> Result<()> {
        let parts = parts(lengths, &range);
        for part in parts.iter().filter(|part| part.root == self.rank) {
            staging.upload(part.at, &own[part.own.clone()])?;
        }
        self.library.together(|| {
            parts
                .iter()
                .try_for_each(|part| self.library.broadcast(self.handle, part.root, staging.part(part.at..part.at + part.own.len())))
        })?;
        staging.download(0, &mut all[range])
    }
}

impl Communicator for Nccl {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<()> {
        self.is_rank(peer)?;
        if peer == self.rank {
            ensure!(send.len() == receive.len(), "a rank cannot exchange {} and {} bytes with itself", send.len(), receive.len());
            receive.copy_from_slice(send);
            return Ok(());
        }
        let what = format!("sends {} bytes to rank {peer} and receives {}", send.len(), receive.len());
        self.staged(what, |staging| {
            for (sent, received) in rounds(send.len(), receive.len(), HALF) {
                staging.upload(0, &send[sent.clone()])?;
                self.send_and_receive(peer, staging.part(0..sent.len()), staging.part(HALF..HALF + received.len()))?;
                staging.download(HALF, &mut receive[received])?;
            }
            Ok(())
        })
    }

    fn broadcast(&self, root: usize, buffer: &mut [u8]) -> Result<()> {
        self.is_rank(root)?;
        self.staged(format!("waits for {} bytes of rank {root}", buffer.len()), |staging| {
            for (piece, _) in rounds(buffer.len(), 0, ROOM) {
                if self.rank == root {
                    staging.upload(0, &buffer[piece.clone()])?;
                }
                self.library.broadcast(self.handle, root, staging.part(0..piece.len()))?;
                // The root only waits.
                let received = if self.rank == root { 0..0 } else { piece };
                staging.download(0, &mut buffer[received])?;
            }
            Ok(())
        })
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.staged(format!("sends {} bytes to all ranks and receives theirs", bytes.len()), |staging| {
            let lengths = self.gather_lengths(staging, bytes.len())?;
            let mut all = vec![0; lengths.iter().sum()];
            for (range, _) in rounds(all.len(), 0, ROOM) {
                self.gather_range(staging, &lengths, range, bytes, &mut all)?;
            }
            let mut rest = all.as_slice();
            Ok(lengths.iter().filter_map(|length| rest.split_off(..*length)).map(<[u8]>::to_vec).collect())
        })
    }

    fn abort(&self, code: i32) -> ! {
        end_all(self.launcher.as_deref(), code)
    }

    fn finish(&self) -> Result<()> {
        self.context.bind_to_thread()?;
        let _turn = self.turn();
        self.context.synchronize()?;
        self.calls.start("leaves the group".into());
        // From now on NCCL must not be asked for errors.
        self.calls.ask(Box::new(|| None));
        let left = self.library.leave(self.handle);
        self.calls.close();
        left?;
        self.launcher.as_ref().map_or(Ok(()), |launcher| launcher.finish())
    }

    fn device(&self) -> Option<&dyn DeviceCommunicator> {
        Some(self)
    }
}

impl DeviceCommunicator for Nccl {
    fn exchange_device(&self, peer: usize, send: DeviceSlice, receive: DeviceSlice) -> Result<()> {
        self.is_rank(peer)?;
        if peer == self.rank {
            bail!("rank {peer} cannot exchange device memory with itself");
        }
        ensure!(send.stream() == receive.stream(), "bytes that are sent and received belong to two streams");
        let what = format!("sends {} bytes of its GPU to rank {peer} and receives {}", send.bytes(), receive.bytes());
        self.in_stream(what, send.stream(), || self.send_and_receive(peer, buffer(send), buffer(receive)))
    }

    fn broadcast_device(&self, root: usize, slice: DeviceSlice) -> Result<()> {
        self.is_rank(root)?;
        let what = format!("waits for {} bytes of rank {root}'s GPU", slice.bytes());
        self.in_stream(what, slice.stream(), || self.library.broadcast(self.handle, root, buffer(slice)))
    }
}

impl fmt::Debug for Nccl {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "rank {} of {} ({:?})", self.rank, self.world, self.library)
    }
}

fn buffer(slice: DeviceSlice) -> Buffer {
    Buffer { address: slice.address(), bytes: slice.bytes(), stream: slice.stream() }
}

/// Ends all ranks: the launcher does so when this process ends with a code other than 0. Destructors do not run, since those of the GPU's
/// libraries would wait for work that never ends.
fn end_all(launcher: Option<&dyn Communicator>, code: i32) -> ! {
    if let Some(launcher) = launcher {
        launcher.abort(code);
    }
    let _ = std::io::stdout().flush();
    #[allow(unsafe_code)]
    unsafe extern "C" {
        // SAFETY: the C library has this function, which takes any number and does not return.
        safe fn _exit(code: i32) -> !;
    }
    _exit(code)
}
