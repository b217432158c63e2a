//! Ranks that are threads of one process, for tests: no launcher and no library is needed.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow, ensure};

use super::{Communicator, World};

/// A rank that is a thread. It has one channel from each rank and one to each.
pub struct Thread {
    rank: usize,
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Mutex<Receiver<Vec<u8>>>>,
}

/// Creates the ranks of a world of `count` threads, in order.
pub fn ranks(count: usize) -> Vec<Thread> {
    let mut to: Vec<Vec<Sender<Vec<u8>>>> = (0..count).map(|_| Vec::new()).collect();
    let mut from: Vec<Vec<Mutex<Receiver<Vec<u8>>>>> = (0..count).map(|_| Vec::new()).collect();
    for to in &mut to {
        for from in &mut from {
            let (sender, receiver) = channel();
            to.push(sender);
            from.push(Mutex::new(receiver));
        }
    }
    to.into_iter().zip(from).enumerate().map(|(rank, (to, from))| Thread { rank, to, from }).collect()
}

/// Runs `work` on `count` ranks, each in a thread, and returns the results in rank order. A rank that fails or panics disconnects, so the
/// others fail too instead of waiting for it.
///
/// # Panics
/// If `work` panics.
pub fn run<T: Send>(count: usize, work: impl Fn(World) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let start = |thread: Thread| scope.spawn(move || work(World::of(Arc::new(thread))));
        let threads: Vec<_> = ranks(count).into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

impl Thread {
    fn send(&self, to: usize, bytes: &[u8]) -> Result<()> {
        self.to[to].send(bytes.to_vec()).map_err(|_| anyhow!("rank {to} has ended"))
    }

    fn receive(&self, from: usize) -> Result<Vec<u8>> {
        self.from[from].lock().unwrap_or_else(PoisonError::into_inner).recv().map_err(|_| anyhow!("rank {from} has ended"))
    }

    fn receive_into(&self, from: usize, buffer: &mut [u8]) -> Result<()> {
        let received = self.receive(from)?;
        ensure!(received.len() == buffer.len(), "rank {from} sent {} bytes, expected {}", received.len(), buffer.len());
        buffer.copy_from_slice(&received);
        Ok(())
    }
}

impl Communicator for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.to.len()
    }

    fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<()> {
        self.send(peer, send)?;
        self.receive_into(peer, receive)
    }

    fn broadcast(&self, root: usize, buffer: &mut [u8]) -> Result<()> {
        if self.rank != root {
            return self.receive_into(root, buffer);
        }
        (0..self.world()).filter(|peer| *peer != root).try_for_each(|peer| self.send(peer, buffer))
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        (0..self.world()).try_for_each(|peer| self.send(peer, bytes))?;
        (0..self.world()).map(|peer| self.receive(peer)).collect()
    }

    fn abort(&self, code: i32) -> ! {
        panic!("rank {} aborted with code {code}", self.rank)
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_exchange_broadcast_and_gather() {
        let found = run(4, |world| {
            let link = world.communicator();
            let (rank, mut received) = (link.rank() as u8, vec![0; 2]);
            link.exchange(link.rank() ^ 1, &[rank, 7], &mut received).unwrap();
            let mut shared = [rank];
            link.broadcast(2, &mut shared).unwrap();
            (received, shared, link.gather(&vec![rank; link.rank()]).unwrap())
        });
        for (rank, (received, shared, gathered)) in found.into_iter().enumerate() {
            assert_eq!((received, shared), (vec![rank as u8 ^ 1, 7], [2]));
            assert_eq!(gathered, [vec![], vec![1], vec![2; 2], vec![3; 3]]);
        }
    }

    #[test]
    fn run_ends_when_a_rank_fails() {
        let results =
            run(2, |world| if world.rank() == 0 { Err(anyhow!("disk full")) } else { world.communicator().gather(&[]).map(drop) });
        let messages: Vec<String> = results.into_iter().map(|result| result.unwrap_err().to_string()).collect();
        assert_eq!(messages, ["disk full", "rank 0 has ended"]);
    }
}
