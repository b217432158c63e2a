//! Ranks that an MPI library connects. The library is loaded while the program runs, so that the program needs none to start.
//!
//! [`find`] says which library belongs to the launcher, [`library`] knows the libraries' binary interfaces, and
//! [`descriptors`] keeps their connections from other programs. This file moves bytes.

pub mod descriptors;
pub mod find;
pub mod library;

use std::ffi::c_int;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Communicator;
use library::{Library, Request, Status};

/// The longest message in bytes. MPI counts in `int`, so longer ones are cut into pieces. Larger pieces are not faster.
const PIECE: usize = 64 << 20;

/// The tag of all messages.
const TAG: c_int = 7;

/// How long `MPI_Abort` may take before this process ends itself, upon which the launcher ends the others.
const ABORT_TIME: Duration = Duration::from_secs(5);

/// A process that an MPI library connects with others.
pub struct Mpi {
    library: &'static Library,
    rank: usize,
    world: usize,
    /// MPI is asked for `MPI_THREAD_SERIALIZED`: calls from any thread, one at a time.
    turn: Mutex<()>,
}

impl Mpi {
    /// Initializes the library and learns this process's rank.
    ///
    /// # Errors
    /// If the library fails. It may also end the process, for instance if it cannot reach the launcher.
    pub fn start(library: &'static Library) -> Result<Self> {
        let [mut provided, mut rank, mut world] = [0; 3];
        // SAFETY: MPI accepts null pointers in place of the program's arguments. `Library` is initialized only here, and the caller
        // does so once. The results are written to integers that live long enough, here and below.
        library.check(unsafe {
            (library.calls.init_thread)(std::ptr::null_mut(), std::ptr::null_mut(), library.handles.serialized, &mut provided)
        })?;
        ensure!(
            provided >= library.handles.serialized,
            "{} does not support threads (MPI_THREAD_SERIALIZED); install a build of it that does",
            library.version()
        );
        let group = library.handles.world;
        // SAFETY: the library is initialized, and the handles are its own constants.
        library.check(unsafe { (library.calls.comm_set_errhandler)(group, library.handles.errors_return) })?;
        // SAFETY: as above; the rank is written to an integer that lives long enough.
        library.check(unsafe { (library.calls.comm_rank)(group, &mut rank) })?;
        // SAFETY: as above.
        library.check(unsafe { (library.calls.comm_size)(group, &mut world) })?;
        Ok(Self { library, rank: usize::try_from(rank)?, world: usize::try_from(world)?, turn: Mutex::new(()) })
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one piece and receives another at the same time; either may be absent.
    fn exchange_piece(&self, peer: c_int, send: Option<&[u8]>, receive: Option<&mut [u8]>) -> Result<()> {
        let (calls, handles) = (&self.library.calls, &self.library.handles);
        let pending = match receive {
            Some(buffer) => {
                let mut request = Request::default();
                // SAFETY: the buffer is borrowed for this whole function, which waits for the request below before it returns.
                self.library.check(unsafe {
                    (calls.irecv)(buffer.as_mut_ptr().cast(), length(buffer)?, handles.byte, peer, TAG, handles.world, &mut request)
                })?;
                Some((request, buffer.len()))
            }
            None => None,
        };
        let sent = send.map_or(Ok(0), |bytes| {
            // SAFETY: the buffer has as many bytes as are sent, and the call returns when MPI no longer reads them.
            length(bytes).map(|count| unsafe { (calls.send)(bytes.as_ptr().cast(), count, handles.byte, peer, TAG, handles.world) })
        });
        if let Some((mut request, expected)) = pending {
            let (mut status, mut received) = (Status::default(), 0);
            // SAFETY: the request is the one that was started above; a `Status` is larger than every library's.
            self.library.check(unsafe { (calls.wait)(&mut request, &mut status) })?;
            // SAFETY: the status was filled in by the call above.
            self.library.check(unsafe { (calls.get_count)(&status, handles.byte, &mut received) })?;
            ensure!(usize::try_from(received)? == expected, "rank {peer} sent {received} bytes, expected {expected}");
        }
        self.library.check(sent?)
    }

    /// Returns how many bytes every rank is about to send.
    fn lengths(&self, own: usize) -> Result<Vec<usize>> {
        let handles = &self.library.handles;
        let (own, mut all) = ((own as u64).to_le_bytes(), vec![0u8; 8 * self.world]);
        // SAFETY: each rank sends 8 bytes, and the buffer has 8 for each.
        self.library.check(unsafe {
            (self.library.calls.allgather)(own.as_ptr().cast(), 8, handles.byte, all.as_mut_ptr().cast(), 8, handles.byte, handles.world)
        })?;
        all.as_chunks().0.iter().map(|bytes| Ok(usize::try_from(u64::from_le_bytes(*bytes))?)).collect()
    }

    /// Gathers one piece of every rank, whose lengths are known.
    fn gather_piece(&self, own: &[u8], lengths: &[usize]) -> Result<Vec<u8>> {
        let handles = &self.library.handles;
        let mut all = vec![0u8; lengths.iter().sum()];
        let counts = lengths.iter().map(|length| c_int::try_from(*length)).collect::<Result<Vec<_>, _>>()?;
        let starts: Vec<c_int> = counts.iter().scan(0, |next, count| Some(std::mem::replace(next, *next + count))).collect();
        // SAFETY: the buffer holds the pieces of all ranks, one after the other, as the counts and the starts say; both have one entry a
        // rank. `own` has as many bytes as the entry for this rank.
        self.library.check(unsafe {
            (self.library.calls.allgatherv)(
                own.as_ptr().cast(),
                length(own)?,
                handles.byte,
                all.as_mut_ptr().cast(),
                counts.as_ptr(),
                starts.as_ptr(),
                handles.byte,
                handles.world,
            )
        })?;
        Ok(all)
    }
}

/// The length of a piece as MPI counts it.
fn length(piece: &[u8]) -> Result<c_int> {
    Ok(c_int::try_from(piece.len())?)
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<()> {
        ensure!(peer < self.world, "rank {} cannot exchange with rank {peer} of {}", self.rank, self.world);
        if peer == self.rank {
            ensure!(send.len() == receive.len(), "rank {peer} cannot send itself {} bytes as {}", send.len(), receive.len());
            receive.copy_from_slice(send);
            return Ok(());
        }
        let _turn = self.turn();
        let peer = c_int::try_from(peer)?;
        let (mut send, mut receive) = (send.chunks(PIECE), receive.chunks_mut(PIECE));
        loop {
            match (send.next(), receive.next()) {
                (None, None) => return Ok(()),
                (send, receive) => {
                    self.exchange_piece(peer, send, receive).with_context(|| format!("the exchange with rank {peer} failed"))?
                }
            }
        }
    }

    fn broadcast(&self, root: usize, buffer: &mut [u8]) -> Result<()> {
        ensure!(root < self.world, "rank {} cannot receive from rank {root} of {}", self.rank, self.world);
        let _turn = self.turn();
        let handles = &self.library.handles;
        for piece in buffer.chunks_mut(PIECE) {
            // SAFETY: the buffer has as many bytes as MPI reads on the root and writes on the other ranks.
            let code = unsafe {
                (self.library.calls.bcast)(piece.as_mut_ptr().cast(), length(piece)?, handles.byte, c_int::try_from(root)?, handles.world)
            };
            self.library.check(code).with_context(|| format!("the broadcast from rank {root} failed"))?;
        }
        Ok(())
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let _turn = self.turn();
        let gather = || -> Result<Vec<Vec<u8>>> {
            let lengths = self.lengths(bytes.len())?;
            let mut all: Vec<Vec<u8>> = lengths.iter().map(|length| Vec::with_capacity(*length)).collect();
            // All pieces of a round together are one message.
            let step = (PIECE / self.world).max(1);
            for start in (0..lengths.iter().copied().max().unwrap_or(0)).step_by(step) {
                let part = |length: usize| start.min(length)..(start + step).min(length);
                let parts: Vec<usize> = lengths.iter().map(|length| part(*length).len()).collect();
                let round = self.gather_piece(&bytes[part(bytes.len())], &parts)?;
                let mut rest = &round[..];
                for (own, length) in all.iter_mut().zip(parts) {
                    let (first, others) = rest.split_at(length);
                    own.extend_from_slice(first);
                    rest = others;
                }
            }
            Ok(all)
        };
        gather().context("the ranks could not collect their values")
    }

    /// Does not wait for its turn, since another thread may wait in MPI for a rank that has ended.
    fn abort(&self, code: i32) -> ! {
        std::thread::spawn(|| {
            std::thread::sleep(ABORT_TIME);
            std::process::abort();
        });
        // SAFETY: MPI_Abort has no requirements but that MPI was initialized, which `start` did. It may come from another thread while
        // a call is in progress, which MPI does not promise to support at this thread level: the thread above then ends the process.
        unsafe { (self.library.calls.abort)(self.library.handles.world, code) };
        std::process::exit(code)
    }

    fn finish(&self) -> Result<()> {
        let _turn = self.turn();
        // SAFETY: no other call follows, as the trait demands.
        self.library.check(unsafe { (self.library.calls.finalize)() }).context("MPI_Finalize failed")
    }
}
