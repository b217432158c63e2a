//! A single process, which is all ranks of its run.

use anyhow::{Result, ensure};

use super::Communicator;

/// The only rank of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

impl Communicator for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn world(&self) -> usize {
        1
    }

    fn exchange(&self, peer: usize, send: &[u8], receive: &mut [u8]) -> Result<()> {
        ensure!(peer == 0 && send.len() == receive.len(), "a single rank cannot exchange {} bytes with rank {peer}", send.len());
        receive.copy_from_slice(send);
        Ok(())
    }

    fn broadcast(&self, root: usize, _: &mut [u8]) -> Result<()> {
        ensure!(root == 0, "a single rank cannot receive from rank {root}");
        Ok(())
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![bytes.to_vec()])
    }

    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }
}
