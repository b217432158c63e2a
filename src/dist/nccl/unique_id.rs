//! How ranks find each other: through a communicator that exists, or at an address where NCCL's rank 0 listens.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result};

use super::abi::UniqueId;
use super::environment;
use super::library::Library;
use crate::dist::Communicator;

/// The variable in which NCCL looks for the address where rank 0 listens.
pub const ADDRESS_VARIABLE: &str = "NCCL_COMM_ID";
/// How far NCCL's port is from the launcher's. The next ports are often those of other runs on the same machine.
const PORT_DISTANCE: u16 = 1_000;

/// How the ranks find each other.
#[derive(Clone)]
pub enum Meeting {
    /// At an address that every rank knows.
    Address(String),
    /// Through a communicator that connects them already, such as MPI. It also ends the ranks.
    Through(Arc<dyn Communicator>),
}

impl Meeting {
    /// Meets at the address in `NCCL_COMM_ID`, or else on the host `MASTER_ADDR` of torchrun and Kubernetes. Its port `MASTER_PORT` can be
    /// taken by torchrun itself, so NCCL uses the port 1,000 above it (below it if there is none above).
    pub fn at(master_address: &str, master_port: u16) -> Self {
        Self::Address(address(env::var_os(ADDRESS_VARIABLE), master_address, master_port))
    }

    /// Returns the identifier of the group: the same on all ranks.
    ///
    /// Call it at the start of the program, since it sets `NCCL_COMM_ID`, which other threads must not read meanwhile.
    ///
    /// # Errors
    /// If NCCL refuses the address or finds no network, or the communicator fails.
    pub fn unique_id(&self, library: &Library) -> Result<UniqueId> {
        match self {
            Self::Address(address) => {
                environment::set(ADDRESS_VARIABLE, address);
                library.unique_id().with_context(|| format!("{ADDRESS_VARIABLE} is {address:?}, expected HOST:PORT of rank 0"))
            }
            Self::Through(communicator) => {
                let mut id = UniqueId { bytes: [0; 128] };
                if communicator.rank() == 0 {
                    id = library.unique_id()?;
                }
                communicator.broadcast(0, &mut id.bytes)?;
                Ok(id)
            }
        }
    }
}

impl fmt::Debug for Meeting {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Address(address) => write!(out, "at {address}"),
            Self::Through(communicator) => write!(out, "through {} ranks", communicator.world()),
        }
    }
}

fn address(chosen: Option<OsString>, host: &str, port: u16) -> String {
    if let Some(chosen) = chosen.filter(|chosen| !chosen.is_empty()) {
        return chosen.to_string_lossy().into_owned();
    }
    let port = port.checked_add(PORT_DISTANCE).unwrap_or(port.saturating_sub(PORT_DISTANCE));
    // An IPv6 address contains colons.
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_keeps_clear_of_the_launchers_port() {
        let check = |chosen: Option<&str>, host: &str, port, expected: &str| {
            assert_eq!(address(chosen.map(OsString::from), host, port), expected);
        };
        check(None, "node-1", 29_500, "node-1:30500");
        check(None, "10.0.0.7", 65_000, "10.0.0.7:64000");
        check(None, "fd00::7", 29_500, "[fd00::7]:30500");
        check(None, "[fd00::7]", 29_500, "[fd00::7]:30500");
        check(Some("node-1:7000"), "node-2", 29_500, "node-1:7000");
        check(Some(""), "node-2", 29_500, "node-2:30500");
    }
}
