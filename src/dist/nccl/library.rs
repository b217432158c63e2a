//! The functions of NCCL, looked up in its shared library. Knows their C signatures; knows nothing about streams or devices.
#![allow(unsafe_code)] // calls a C library

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

use super::abi::{
    AllGather, BYTES, Broadcast, Buffer, GetAsyncError, GetErrorString, GetLastError, GetUniqueId, GetVersion, Group, Handle, IN_PROGRESS,
    InitRank, OfCommunicator, Receive, SUCCESS, SendBytes, UniqueId, Version,
};
use crate::dist::ConnectionLost;

/// The variable that names the library's file.
pub const LIBRARY_VARIABLE: &str = "RLVR_NCCL_LIBRARY";
/// The names under which the library is looked for. NVIDIA's Python packages contain only the first.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
/// The first version with sends and receives.
const OLDEST: Version = Version { major: 2, minor: 7, patch: 0 };

/// The loaded library. It stays loaded until the process ends, because its threads may outlive every use.
pub struct Library {
    get_unique_id: GetUniqueId,
    init_rank: InitRank,
    destroy: OfCommunicator,
    get_async_error: GetAsyncError,
    get_error_string: GetErrorString,
    /// Versions before 2.13 lack it.
    get_last_error: Option<GetLastError>,
    send: SendBytes,
    receive: Receive,
    group_start: Group,
    group_end: Group,
    broadcast: Broadcast,
    all_gather: AllGather,
    version: Version,
}

impl Library {
    /// Loads the library, or returns the one that was loaded before: the file that `RLVR_NCCL_LIBRARY` names, or else `libnccl.so.2` or
    /// `libnccl.so` from where the system looks for libraries.
    ///
    /// # Errors
    /// If there is no such library, or it is too old.
    pub fn load() -> Result<&'static Self> {
        static LOADED: OnceLock<Library> = OnceLock::new();
        if let Some(library) = LOADED.get() {
            return Ok(library);
        }
        let named = std::env::var_os(LIBRARY_VARIABLE).map(PathBuf::from);
        let names = named.map_or_else(|| NAMES.map(PathBuf::from).to_vec(), |name| vec![name]);
        let library = Self::open(&names)?;
        Ok(LOADED.get_or_init(|| library))
    }

    /// Loads the first library of these names that exists.
    fn open(names: &[PathBuf]) -> Result<Self> {
        let mut failures = Vec::new();
        for name in names {
            // SAFETY: loading NCCL only runs its initializers, which need nothing from this program.
            match unsafe { libloading::Library::new(name) } {
                Ok(loaded) => {
                    // Never unloaded, so the functions stay valid.
                    let loaded: &'static libloading::Library = Box::leak(Box::new(loaded));
                    return Self::of(loaded, name);
                }
                Err(error) => failures.push(format!("{}: {error}", name.display())),
            }
        }
        bail!(
            "cannot load NCCL ({}). Install it (PyTorch for CUDA contains it in the Python package nvidia-nccl-cu13), then add its folder to \
             LD_LIBRARY_PATH or set {LIBRARY_VARIABLE} to its file",
            failures.join("; ")
        )
    }

    /// Looks up the functions.
    fn of(loaded: &'static libloading::Library, name: &Path) -> Result<Self> {
        let get_version: GetVersion = function(loaded, name, "ncclGetVersion")?;
        let mut code = 0;
        // SAFETY: the call writes one number.
        let outcome = unsafe { get_version(&raw mut code) };
        ensure!(outcome == SUCCESS, "{} does not tell its version (error {outcome})", name.display());
        let version = Version::of_code(code);
        ensure!(version >= OLDEST, "{} is NCCL {version}, but NCCL {OLDEST} or newer is needed", name.display());
        Ok(Self {
            get_unique_id: function(loaded, name, "ncclGetUniqueId")?,
            init_rank: function(loaded, name, "ncclCommInitRank")?,
            destroy: function(loaded, name, "ncclCommDestroy")?,
            get_async_error: function(loaded, name, "ncclCommGetAsyncError")?,
            get_error_string: function(loaded, name, "ncclGetErrorString")?,
            get_last_error: function(loaded, name, "ncclGetLastError").ok(),
            send: function(loaded, name, "ncclSend")?,
            receive: function(loaded, name, "ncclRecv")?,
            group_start: function(loaded, name, "ncclGroupStart")?,
            group_end: function(loaded, name, "ncclGroupEnd")?,
            broadcast: function(loaded, name, "ncclBroadcast")?,
            all_gather: function(loaded, name, "ncclAllGather")?,
            version,
        })
    }

    /// The library's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Creates the identifier of a new group. If `NCCL_COMM_ID` names an address, it is that address, and every rank may create it.
    ///
    /// # Errors
    /// If NCCL finds no network interface, or the address is not one.
    pub fn unique_id(&self) -> Result<UniqueId> {
        let mut id = UniqueId { bytes: [0; 128] };
        // SAFETY: the call writes the 128 bytes of an identifier.
        self.check("ncclGetUniqueId", unsafe { (self.get_unique_id)(&raw mut id) })?;
        Ok(id)
    }

    /// Joins a group as one of its ranks, with the GPU whose context is current. Returns when all ranks have joined.
    ///
    /// # Errors
    /// If a connection fails, or two ranks use the same GPU.
    pub fn join(&self, id: UniqueId, rank: usize, world: usize) -> Result<Handle> {
        let mut communicator = std::ptr::null_mut();
        // SAFETY: the call writes one pointer.
        self.check("ncclCommInitRank", unsafe { (self.init_rank)(&raw mut communicator, world as c_int, id, rank as c_int) })?;
        Ok(Handle(communicator))
    }

    /// Leaves a group. The handle must not be used after it.
    ///
    /// # Errors
    /// If work in the group has failed.
    pub fn leave(&self, communicator: Handle) -> Result<()> {
        // SAFETY: the handle comes from `join`, and the caller makes one call at a time.
        self.check("ncclCommDestroy", unsafe { (self.destroy)(communicator.0) })
    }

    /// Returns the error that work in the group has met since it was started, if any. Any thread may ask while the group exists.
    pub fn failure(&self, communicator: Handle) -> Option<String> {
        let mut code = SUCCESS;
        // SAFETY: the handle comes from `join`; the call writes one number.
        let asked = unsafe { (self.get_async_error)(communicator.0, &raw mut code) };
        [asked, code].into_iter().find(|code| *code != SUCCESS && *code != IN_PROGRESS).map(|code| self.words(code))
    }

    /// Starts sending a buffer to a rank.
    ///
    /// # Errors
    /// If NCCL refuses the call.
    pub fn send(&self, communicator: Handle, peer: usize, from: Buffer) -> Result<()> {
        let address = from.address as *const c_void;
        // SAFETY: `Buffer` describes device memory that its owner keeps until the stream's work has ended.
        self.check("ncclSend", unsafe {
            (self.send)(address, from.bytes, BYTES, peer as c_int, communicator.0, from.stream as *mut c_void)
        })
    }

    /// Starts receiving a buffer from a rank.
    ///
    /// # Errors
    /// If NCCL refuses the call.
    pub fn receive(&self, communicator: Handle, peer: usize, to: Buffer) -> Result<()> {
        let address = to.address as *mut c_void;
        // SAFETY: see `send`.
        self.check("ncclRecv", unsafe { (self.receive)(address, to.bytes, BYTES, peer as c_int, communicator.0, to.stream as *mut c_void) })
    }

    /// Starts copying the buffer of the rank `root` to the buffers of all ranks.
    ///
    /// # Errors
    /// If NCCL refuses the call.
    pub fn broadcast(&self, communicator: Handle, root: usize, buffer: Buffer) -> Result<()> {
        let (address, stream) = (buffer.address as *mut c_void, buffer.stream as *mut c_void);
        // SAFETY: see `send`. Sending and receiving in the same place is allowed.
        let code = unsafe { (self.broadcast)(address, address, buffer.bytes, BYTES, root as c_int, communicator.0, stream) };
        self.check("ncclBroadcast", code)
    }

    /// Starts filling a buffer, which has one part of `bytes` bytes for each rank, with the parts of all ranks. This rank's part is in it.
    ///
    /// # Errors
    /// If NCCL refuses the call.
    pub fn all_gather(&self, communicator: Handle, rank: usize, bytes: usize, buffer: Buffer) -> Result<()> {
        let (own, stream) = (buffer.address + (rank * bytes) as u64, buffer.stream as *mut c_void);
        // SAFETY: see `send`. NCCL defines that a rank may send from its place in the buffer.
        let code = unsafe { (self.all_gather)(own as *const c_void, buffer.address as *mut c_void, bytes, BYTES, communicator.0, stream) };
        self.check("ncclAllGather", code)
    }

    /// Starts the calls that `calls` makes together, so that sends and receives do not wait for each other.
    ///
    /// # Errors
    /// If NCCL refuses a call.
    pub fn together(&self, calls: impl FnOnce() -> Result<()>) -> Result<()> {
        // SAFETY: the call takes nothing.
        self.check("ncclGroupStart", unsafe { (self.group_start)() })?;
        let called = calls();
        // SAFETY: ends the group started above, also after an error.
        let ended = self.check("ncclGroupEnd", unsafe { (self.group_end)() });
        called.and(ended)
    }

    /// Turns what a call returned into a [`ConnectionLost`] that names the call and the cause.
    fn check(&self, call: &str, code: c_int) -> Result<()> {
        if code == SUCCESS {
            return Ok(());
        }
        // SAFETY: NCCL returns text that stays valid until its next call; it allows a null communicator here.
        let detail = self.get_last_error.map(|last| text(unsafe { last(std::ptr::null_mut()) })).unwrap_or_default();
        Err(ConnectionLost { what: describe(call, &self.words(code), &detail) }.into())
    }

    fn words(&self, code: c_int) -> String {
        // SAFETY: NCCL returns constant text for every number.
        text(unsafe { (self.get_error_string)(code) })
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "NCCL {}", self.version)
    }
}

fn function<T: Copy>(loaded: &'static libloading::Library, file: &Path, name: &str) -> Result<T> {
    // SAFETY: each field of `Library` has the type that NCCL documents for the function of this name.
    let found = unsafe { loaded.get::<T>(name.as_bytes()) };
    Ok(*found.with_context(|| format!("{} lacks {name}: is it NCCL {OLDEST} or newer?", file.display()))?)
}

fn text(at: *const c_char) -> String {
    if at.is_null() {
        return String::new();
    }
    // SAFETY: NCCL returns null or text that ends with a zero.
    unsafe { CStr::from_ptr(at) }.to_string_lossy().trim().to_owned()
}

fn describe(call: &str, words: &str, detail: &str) -> String {
    let separator = if detail.is_empty() { "" } else { ": " };
    format!("NCCL reports \"{words}\" for {call}{separator}{detail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_says_what_was_tried_and_what_to_do() {
        let names = ["/nonexistent/libnccl.so.2", "/nonexistent/other.so"].map(PathBuf::from);
        let message = Library::open(&names).unwrap_err().to_string();
        assert!(message.starts_with("cannot load NCCL (/nonexistent/libnccl.so.2: "), "{message}");
        assert!(message.contains("; /nonexistent/other.so: ") && message.contains("set RLVR_NCCL_LIBRARY to its file"), "{message}");
    }

    #[test]
    fn open_refuses_another_library() {
        // The C library is in every process.
        let message = format!("{:#}", Library::open(&[PathBuf::from("libc.so.6")]).unwrap_err());
        assert!(message.starts_with("libc.so.6 lacks ncclGetVersion: is it NCCL 2.7.0 or newer?"), "{message}");
    }

    #[test]
    fn describe_adds_what_nccl_knows_about_the_cause() {
        assert_eq!(describe("ncclSend", "invalid usage", ""), "NCCL reports \"invalid usage\" for ncclSend");
        let duplicate = describe("ncclCommInitRank", "invalid usage", "Duplicate GPU detected");
        assert_eq!(duplicate, "NCCL reports \"invalid usage\" for ncclCommInitRank: Duplicate GPU detected");
    }
}
