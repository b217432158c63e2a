//! Who started this process, and how it joins the other ranks. The environment says it: each launcher sets variables.
//!
//! [`variables`] reads them, [`gpus`] chooses the GPU of a rank, and [`joined`] keeps the ranks of this process, so that every way out of the
//! program ends or leaves them.

pub mod gpus;
pub mod joined;
pub mod variables;

use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::World;
use super::mpi::{Mpi, descriptors, find, library};
#[cfg(feature = "cuda")]
use super::nccl;
use crate::usage::usage;
pub use gpus::Gpus;
pub use joined::end;
pub use variables::{Launch, Launcher};

/// Joins the other ranks that the launcher has started: by MPI, or by NCCL under torchrun. Without a launcher, or if it has started one
/// process, the world is this process alone, and no library is loaded. From then on, an error or a panic ends all ranks, and only rank 0
/// prints messages and results. Call it at the start of the program; `gpus` says which GPUs it sees afterwards.
///
/// # Errors
/// If there is no library to exchange data with, or it belongs to another launcher.
pub fn join(gpus: Gpus) -> Result<World> {
    let Some(launch) = Launch::of_this_process()?.filter(|launch| launch.world != Some(1)) else { return Ok(World::solo().clone()) };
    if gpus == Gpus::Own {
        gpus::hide_others(&launch);
    }
    if launch.launcher == Launcher::Torchrun {
        return join_by_nccl(&launch);
    }
    joined::others_may_wait();
    let library = find::load(launch.launcher == Launcher::Hydra)?;
    check_family(&launch, library)?;
    let mpi = Mpi::start(library)?;
    let world = World::of(std::sync::Arc::new(mpi)).with_ranks_on_host(launch.local_world);
    // The registration comes first: the check below fails on some ranks only if the launcher mixes libraries.
    joined::register(&world);
    check_ranks(&launch, library.version(), world.rank(), world.size())?;
    Ok(world)
}

/// Joins ranks that nothing connects yet.
#[cfg(feature = "cuda")]
fn join_by_nccl(launch: &Launch) -> Result<World> {
    let port = std::env::var(variables::MASTER_PORT).ok().map_or(Ok(variables::USUAL_MASTER_PORT), |port| {
        port.parse().with_context(|| format!("{} is {port:?}, expected a port", variables::MASTER_PORT))
    })?;
    let address = std::env::var(variables::MASTER_ADDRESS).with_context(|| format!("cannot read {}", variables::MASTER_ADDRESS))?;
    let nccl = nccl::join(launch.rank, launch.world.unwrap_or(1), &nccl::Meeting::at(&address, port), 0)?;
    let world = World::of(std::sync::Arc::new(nccl)).with_ranks_on_host(launch.local_world);
    joined::register(&world);
    Ok(world)
}

/// Refuses: this build has no NCCL.
#[cfg(not(feature = "cuda"))]
fn join_by_nccl(launch: &Launch) -> Result<World> {
    let ranks = launch.world.unwrap_or_default();
    usage(Err(anyhow!(
        "torchrun has started {ranks} processes, which need a build with the feature cuda, GPUs and NCCL to exchange data; on CPUs, start \
         them with mpirun -n {ranks}"
    )))
}

/// Connects the GPUs of ranks that MPI connects, so that data moves between them without the hosts. `gpu` is the number of the GPU that this
/// rank uses; all ranks must use GPUs, or none. Returns the same world for a single process, without a GPU, and if NCCL connects it already.
///
/// # Errors
/// If NCCL is not installed or fails.
#[cfg(feature = "cuda")]
pub fn connect_gpus(world: &World, gpu: Option<usize>) -> Result<World> {
    let Some(gpu) = gpu.filter(|_| world.size() > 1 && world.communicator().device().is_none()) else { return Ok(world.clone()) };
    let nccl = nccl::join(world.rank(), world.size(), &nccl::Meeting::Through(world.communicator.clone()), gpu)?;
    let connected = World::of(std::sync::Arc::new(nccl)).with_ranks_on_host(world.ranks_on_host());
    joined::replace(&connected);
    Ok(connected)
}

/// Returns the same world: this build has no GPUs.
///
/// # Errors
/// Never.
#[cfg(not(feature = "cuda"))]
pub fn connect_gpus(world: &World, _: Option<usize>) -> Result<World> {
    Ok(world.clone())
}

/// Refuses a library that cannot understand the launcher. Open MPI would end the process with messages of its own.
fn check_family(launch: &Launch, library: &library::Library) -> Result<()> {
    let is_open_mpi = library.interface == library::Interface::OpenMpi;
    match launch.launcher {
        Launcher::Hydra => ensure!(!is_open_mpi, "{}", mismatch(launch, library.version())),
        Launcher::OpenMpi => ensure!(is_open_mpi, "{}", mismatch(launch, library.version())),
        Launcher::Slurm | Launcher::Pmix | Launcher::Torchrun => {}
    }
    Ok(())
}

/// Checks that the library found the ranks that the launcher has started.
fn check_ranks(launch: &Launch, version: &str, rank: usize, world: usize) -> Result<()> {
    if launch.rank == rank && launch.world.is_none_or(|expected| expected == world) {
        return Ok(());
    }
    bail!(
        "{} (the launcher says rank {} of {}, the library rank {rank} of {world})",
        mismatch(launch, version),
        launch.rank,
        launch.size()
    );
}

fn mismatch(launch: &Launch, version: &str) -> String {
    let advice = match launch.launcher {
        Launcher::Slurm => "choose what it supports with srun --mpi=pmix or --mpi=pmi2, or name another library",
        _ => "start the program with the mpirun of that library, or name the library of this launcher",
    };
    format!(
        "{} has started this process, but the MPI library found is {version}: {advice}: {}=/path/to/libmpi.so",
        launch.launcher,
        find::VARIABLE
    )
}

/// Refuses to run a command that knows nothing of ranks under a launcher that has started several.
///
/// # Errors
/// If there are several ranks.
pub fn refuse_ranks(command: &str) -> Result<()> {
    let Some(launch) = Launch::of_this_process()?.filter(|launch| launch.world != Some(1)) else { return Ok(()) };
    joined::others_may_wait();
    usage(Err(anyhow!(
        "rlvr {command} runs in one process, but {} has started {}; start it without the launcher",
        launch.launcher,
        launch.size()
    )))
}

/// Refuses to run a command under torchrun, whose processes only NCCL can connect, if the command exchanges data through MPI.
///
/// # Errors
/// If torchrun has started several processes.
pub fn refuse_torchrun(command: &str) -> Result<()> {
    let launch = Launch::of_this_process()?.filter(|launch| launch.launcher == Launcher::Torchrun && launch.world != Some(1));
    let Some(launch) = launch else { return Ok(()) };
    let ranks = launch.world.unwrap_or_default();
    usage(Err(anyhow!("torchrun has started {ranks} processes, but rlvr {command} needs mpirun -n {ranks} or srun -n {ranks} instead")))
}

/// Hides the launcher from a program that this one starts now, which is no rank: the launcher's variables and connections.
pub fn hide_from(command: &mut Command) {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let names: Vec<String> = names.filter(|name| variables::is_launchers(name)).collect();
    if !names.is_empty() {
        descriptors::keep_from_programs();
    }
    names.iter().for_each(|name| _ = command.env_remove(name));
}

impl Launch {
    /// Reads the variables of this process. `None` without a launcher.
    ///
    /// # Errors
    /// If a launcher's variables make no sense.
    pub fn of_this_process() -> Result<Option<Self>> {
        Self::of(|name| std::env::var(name).ok()).context("cannot read what the launcher says about this process")
    }

    /// The number of ranks in words.
    fn size(&self) -> String {
        self.world.map_or_else(|| "several processes".to_owned(), |world| format!("{world} processes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_ranks_names_the_launcher_and_the_library() {
        let launch = |launcher| Launch { launcher, rank: 1, world: Some(4), local_rank: 1, local_world: 4 };
        let check = |launcher, rank, world, expected: Option<&str>| {
            let error = check_ranks(&launch(launcher), "MPICH 5.0.2", rank, world).err().map(|error| error.to_string());
            assert!(error.as_deref().unwrap_or_default().starts_with(expected.unwrap_or_default()), "{error:?}");
            assert_eq!(error.is_some(), expected.is_some());
        };
        check(Launcher::Hydra, 1, 4, None);
        check(Launcher::Pmix, 0, 1, Some("a PMIx launcher has started this process, but the MPI library found is MPICH 5.0.2"));
        check(Launcher::Slurm, 0, 1, Some("srun has started this process, but the MPI library found is MPICH 5.0.2: choose"));
    }
}
