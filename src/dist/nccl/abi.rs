//! The C types and numbers of NCCL's interface that this program uses. They have been the same since NCCL 2.7.
#![allow(unsafe_code)] // describes C functions

use std::ffi::{c_char, c_int, c_void};
use std::fmt;

/// What NCCL returns for "done" and, from a communicator that still works, for "no error so far".
pub const SUCCESS: c_int = 0;
/// NCCL's number for bytes as an element type.
pub const BYTES: c_int = 1;

/// NCCL's identifier of a group of ranks: the same bytes on all of them.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct UniqueId {
    /// The bytes, whose meaning only NCCL knows.
    pub bytes: [u8; 128],
}
/// What NCCL returns for a call of a nonblocking communicator that still runs.
pub const IN_PROGRESS: c_int = 7;

/// A rank's membership in a group: a pointer of the library's own.
#[derive(Clone, Copy, Debug)]
pub struct Handle(pub *mut c_void);

// SAFETY: the pointer is only passed to NCCL, which allows any thread to make a call, but one at a time; its error may always be asked for.
unsafe impl Send for Handle {}
// SAFETY: see above; the caller makes one call at a time.
unsafe impl Sync for Handle {}

/// A buffer of device memory and the stream of a call.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// The device address.
    pub address: u64,
    /// The number of bytes.
    pub bytes: usize,
    /// The `CUstream` as a number.
    pub stream: u64,
}

/// `ncclGetVersion`.
pub type GetVersion = unsafe extern "C" fn(*mut c_int) -> c_int;
/// `ncclGetUniqueId`.
pub type GetUniqueId = unsafe extern "C" fn(*mut UniqueId) -> c_int;
/// `ncclCommInitRank`.
pub type InitRank = unsafe extern "C" fn(*mut *mut c_void, c_int, UniqueId, c_int) -> c_int;
/// `ncclCommDestroy`.
pub type OfCommunicator = unsafe extern "C" fn(*mut c_void) -> c_int;
/// `ncclCommGetAsyncError`.
pub type GetAsyncError = unsafe extern "C" fn(*mut c_void, *mut c_int) -> c_int;
/// `ncclGetErrorString`.
pub type GetErrorString = unsafe extern "C" fn(c_int) -> *const c_char;
/// `ncclGetLastError`.
pub type GetLastError = unsafe extern "C" fn(*mut c_void) -> *const c_char;
/// `ncclSend`.
pub type SendBytes = unsafe extern "C" fn(*const c_void, usize, c_int, c_int, *mut c_void, *mut c_void) -> c_int;
/// `ncclRecv`.
pub type Receive = unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, *mut c_void, *mut c_void) -> c_int;
/// `ncclGroupStart` and `ncclGroupEnd`.
pub type Group = unsafe extern "C" fn() -> c_int;
/// `ncclBroadcast`.
pub type Broadcast = unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, *mut c_void, *mut c_void) -> c_int;
/// `ncclAllGather`.
pub type AllGather = unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, *mut c_void, *mut c_void) -> c_int;

/// A version of NCCL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Versions with other interfaces.
    pub major: i32,
    /// Versions with new functions.
    pub minor: i32,
    /// Corrected versions.
    pub patch: i32,
}

impl Version {
    /// Reads NCCL's number: 2.8.4 is 2804, and from 2.9 on, 2.27.3 is 22703.
    pub fn of_code(code: c_int) -> Self {
        let unit = if code < 10_000 { 1_000 } else { 10_000 };
        Self { major: code / unit, minor: code % unit / 100, patch: code % 100 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_code_reads_both_forms_of_a_version() {
        let check = |code, expected: &str| assert_eq!(Version::of_code(code).to_string(), expected);
        check(2_708, "2.7.8");
        check(2_804, "2.8.4");
        check(20_900, "2.9.0");
        check(22_703, "2.27.3");
        assert!(Version::of_code(2_604) < Version::of_code(2_700) && Version::of_code(2_804) < Version::of_code(20_908));
    }
}
