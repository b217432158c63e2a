//! A loaded MPI library: its functions and the constants of its binary interface.
//!
//! Three interfaces exist. Open MPI's handles are addresses of its own variables. MPICH and its descendants (Intel MPI, Cray MPICH, MVAPICH)
//! use fixed 32-bit numbers. The standard interface of MPI 5, which any library may offer in `libmpi_abi`, uses small fixed numbers of
//! pointer size. Handles are passed as `usize` here: on all 64-bit platforms, a callee that expects 32 bits reads the lower half of the
//! register or stack slot.

use std::ffi::{c_char, c_int, c_void};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// An MPI library, which stays loaded until the process ends: some do not survive unloading.
pub struct Library {
    /// The functions.
    pub(super) calls: Calls,
    /// The constants.
    pub(super) handles: Handles,
    /// The interface that the constants belong to.
    pub interface: Interface,
    version: String,
}

/// The binary interface of a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Open MPI 4 and 5.
    OpenMpi,
    /// MPICH 3 and later, and its descendants.
    Mpich,
    /// The standard interface of MPI 5.
    Standard,
}

/// A message in progress: at most a pointer in all interfaces.
#[repr(transparent)]
#[derive(Default)]
pub(super) struct Request(usize);

/// Filled in by MPI when a message arrives. The largest known has 32 bytes.
#[repr(C)]
#[derive(Default)]
pub(super) struct Status([u64; 16]);

/// The constants that the program uses.
pub(super) struct Handles {
    /// `MPI_COMM_WORLD`
    pub world: usize,
    /// `MPI_BYTE`
    pub byte: usize,
    /// `MPI_ERRORS_RETURN`
    pub errors_return: usize,
    /// `MPI_THREAD_SERIALIZED`
    pub serialized: c_int,
}

/// Declares the functions of MPI that the program calls, and how to load them.
macro_rules! calls {
    ($($field:ident = $symbol:literal: fn($($kind:ty),*);)*) => {
        /// The functions, by their names in MPI without the prefix.
        pub(super) struct Calls {
            $(pub $field: unsafe extern "C" fn($($kind),*) -> c_int,)*
        }

        impl Calls {
            fn load(library: &libloading::Library) -> Result<Self> {
                Ok(Self {
                    $(
                        // SAFETY: the type is that of the function with this name in the MPI standard, with handles as `usize` (see above).
                        $field: *unsafe { library.get(concat!($symbol, "\0").as_bytes()) }
                            .with_context(|| format!("it has no function {}", $symbol))?,
                    )*
                })
            }
        }
    };
}

calls! {
    init_thread = "MPI_Init_thread": fn(*mut c_int, *mut *mut *mut c_char, c_int, *mut c_int);
    comm_set_errhandler = "MPI_Comm_set_errhandler": fn(usize, usize);
    comm_rank = "MPI_Comm_rank": fn(usize, *mut c_int);
    comm_size = "MPI_Comm_size": fn(usize, *mut c_int);
    irecv = "MPI_Irecv": fn(*mut c_void, c_int, usize, c_int, c_int, usize, *mut Request);
    send = "MPI_Send": fn(*const c_void, c_int, usize, c_int, c_int, usize);
    wait = "MPI_Wait": fn(*mut Request, *mut Status);
    get_count = "MPI_Get_count": fn(*const Status, usize, *mut c_int);
    bcast = "MPI_Bcast": fn(*mut c_void, c_int, usize, c_int, usize);
    allgather = "MPI_Allgather": fn(*const c_void, c_int, usize, *mut c_void, c_int, usize, usize);
    allgatherv = "MPI_Allgatherv": fn(*const c_void, c_int, usize, *mut c_void, *const c_int, *const c_int, usize, usize);
    abort = "MPI_Abort": fn(usize, c_int);
    finalize = "MPI_Finalize": fn();
    error_string = "MPI_Error_string": fn(c_int, *mut c_char, *mut c_int);
    get_library_version = "MPI_Get_library_version": fn(*mut c_char, *mut c_int);
}

/// Longer than `MPI_MAX_ERROR_STRING` and `MPI_MAX_LIBRARY_VERSION_STRING` of all interfaces.
const TEXT_BYTES: usize = 16384;

impl Library {
    /// Loads a library by its path, or by its file name where the system looks for libraries. It is never unloaded.
    ///
    /// # Errors
    /// If there is no such library, or it is not an MPI library.
    pub fn load(path: &Path) -> Result<&'static Self> {
        // Leaked, so that it is never unloaded.
        let library: &'static libloading::Library = Box::leak(Box::new(open(path)?));
        let describe = || format!("{} is not an MPI library that this program can use", path.display());
        let calls = Calls::load(library).with_context(describe)?;
        let interface = interface(library).with_context(describe)?;
        let handles = handles(library, interface).with_context(describe)?;
        let version = text(|buffer, length| {
            // SAFETY: the buffer is larger than the longest version of any interface; the standard allows the call before MPI_Init.
            unsafe { (calls.get_library_version)(buffer, length) }
        });
        // Open MPI and MPICH write a paragraph; its beginning is the name and the version.
        let version = version.split([',', '\n']).next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        let version = version.replace("MPICH Version:", "MPICH");
        Ok(Box::leak(Box::new(Self { calls, handles, interface, version })))
    }

    /// The name and version of the library, such as `Open MPI v5.0.11`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Turns MPI's error codes into errors with MPI's own words.
    pub(super) fn check(&self, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let found = text(|buffer, length| {
            // SAFETY: the buffer is larger than the longest message of any interface.
            unsafe { (self.calls.error_string)(code, buffer, length) }
        });
        bail!("{}: {}", self.version, if found.is_empty() { format!("error {code}") } else { found })
    }
}

/// Opens a library. Its symbols are made global, as if the program were linked with it, because plug-ins of MPI libraries expect that.
#[cfg(unix)]
fn open(path: &Path) -> Result<libloading::Library> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

    // SAFETY: runs the library's initialization, which is what linking with it would do. It is the MPI library that the user chose, or the
    // one of the launcher.
    Ok(unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }?.into())
}

#[cfg(not(unix))]
fn open(path: &Path) -> Result<libloading::Library> {
    // SAFETY: as above.
    Ok(unsafe { libloading::Library::new(path) }?)
}

/// Recognizes the interface: only Open MPI has a variable for its world, and only the standard interface reports its version.
fn interface(library: &libloading::Library) -> Result<Interface> {
    if address(library, "ompi_mpi_comm_world").is_ok() {
        return Ok(Interface::OpenMpi);
    }
    // SAFETY: the type is that of the function in the MPI standard. MPICH's own interface has it too, where it reports -1.
    let version = unsafe { library.get::<unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int>(b"MPI_Abi_get_version\0") };
    let Ok(get_version) = version else { return Ok(Interface::Mpich) };
    let (mut major, mut minor) = (-1, -1);
    // SAFETY: the standard allows the call before MPI_Init; it writes two integers.
    unsafe { get_version(&mut major, &mut minor) };
    match major {
        ..=0 => Ok(Interface::Mpich),
        1 => Ok(Interface::Standard),
        _ => bail!("it has version {major}.{minor} of the standard interface; this program knows version 1"),
    }
}

fn handles(library: &libloading::Library, interface: Interface) -> Result<Handles> {
    Ok(match interface {
        Interface::OpenMpi => Handles {
            world: address(library, "ompi_mpi_comm_world")?,
            byte: address(library, "ompi_mpi_byte")?,
            errors_return: address(library, "ompi_mpi_errors_return")?,
            serialized: 2,
        },
        Interface::Mpich => Handles { world: 0x4400_0000, byte: 0x4c00_010d, errors_return: 0x5400_0001, serialized: 2 },
        Interface::Standard => Handles { world: 0x101, byte: 0x247, errors_return: 0x143, serialized: 2048 },
    })
}

/// Returns the address of a variable of the library.
fn address(library: &libloading::Library, name: &str) -> Result<usize> {
    // SAFETY: the symbol is only used as an address, which stays valid since the library stays loaded.
    let symbol = unsafe { library.get::<*mut c_void>(name.as_bytes()) }.with_context(|| format!("it has no variable {name}"))?;
    Ok(*symbol as usize)
}

/// Calls a function that writes a text and its length, and returns the text; empty if it fails.
fn text(call: impl FnOnce(*mut c_char, *mut c_int) -> c_int) -> String {
    let (mut buffer, mut length) = (vec![0u8; TEXT_BYTES], 0);
    if call(buffer.as_mut_ptr().cast(), &mut length) != 0 {
        return String::new();
    }
    let bytes = &buffer[..usize::try_from(length).unwrap_or(0).min(TEXT_BYTES)];
    String::from_utf8_lossy(bytes).trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned()
}
