//! Reads the variables that launchers set.

use std::fmt;

use anyhow::{Context, Result, ensure};

/// The place of this process among those that a launcher has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Who started the process.
    pub launcher: Launcher,
    /// The number of this process, from 0.
    pub rank: usize,
    /// The number of processes; `None` if only the MPI library can find out.
    pub world: Option<usize>,
    /// The number of this process on its host, from 0; it chooses the GPU.
    pub local_rank: usize,
    /// The number of processes on its host.
    pub local_world: usize,
}

/// torchrun's variables for the place where ranks meet.
pub const MASTER_ADDRESS: &str = "MASTER_ADDR";
/// See [`MASTER_ADDRESS`].
pub const MASTER_PORT: &str = "MASTER_PORT";
/// torchrun's port if none is given.
pub const USUAL_MASTER_PORT: u16 = 29_500;

/// A program that starts ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// Open MPI's `mpirun`.
    OpenMpi,
    /// `mpirun` of MPICH, Intel MPI and others.
    Hydra,
    /// Slurm's `srun`.
    Slurm,
    /// PyTorch's `torchrun`, or a Kubernetes job that sets its variables.
    Torchrun,
    /// Another launcher that speaks PMIx.
    Pmix,
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::OpenMpi => "Open MPI's mpirun",
            Self::Hydra => "MPICH's mpirun (hydra)",
            Self::Slurm => "srun",
            Self::Torchrun => "torchrun",
            Self::Pmix => "a PMIx launcher",
        })
    }
}

/// The variables of a launcher: the first is its mark.
struct Names {
    launcher: Launcher,
    /// Variables without which the launcher is another.
    marks: &'static [&'static str],
    rank: &'static str,
    world: Option<&'static str>,
    local_rank: &'static str,
    local_world: &'static str,
}

/// In order of precedence. A launcher may start its processes through another: the `mpirun`s and `torchrun` use `srun` in a Slurm job, whose
/// variables then number the hosts. Open MPI and srun set PMIx's variables too.
const LAUNCHERS: [Names; 5] = [
    Names {
        launcher: Launcher::OpenMpi,
        marks: &["OMPI_COMM_WORLD_RANK"],
        rank: "OMPI_COMM_WORLD_RANK",
        world: Some("OMPI_COMM_WORLD_SIZE"),
        local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
        local_world: "OMPI_COMM_WORLD_LOCAL_SIZE",
    },
    Names {
        launcher: Launcher::Hydra,
        marks: &["PMI_RANK", "MPI_LOCALNRANKS"],
        rank: "PMI_RANK",
        world: Some("PMI_SIZE"),
        local_rank: "MPI_LOCALRANKID",
        local_world: "MPI_LOCALNRANKS",
    },
    Names {
        launcher: Launcher::Torchrun,
        marks: &["RANK", "WORLD_SIZE", MASTER_ADDRESS],
        rank: "RANK",
        world: Some("WORLD_SIZE"),
        local_rank: "LOCAL_RANK",
        local_world: "LOCAL_WORLD_SIZE",
    },
    // The step's variables: a batch script has SLURM_PROCID and SLURM_NTASKS of the whole job, but no step.
    Names {
        launcher: Launcher::Slurm,
        marks: &["SLURM_STEP_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"],
        rank: "SLURM_PROCID",
        world: Some("SLURM_STEP_NUM_TASKS"),
        local_rank: "SLURM_LOCALID",
        local_world: "SLURM_STEP_TASKS_PER_NODE",
    },
    Names {
        launcher: Launcher::Pmix,
        marks: &["PMIX_RANK", "PMIX_NAMESPACE"],
        rank: "PMIX_RANK",
        world: None,
        local_rank: "PMIX_LOCAL_RANK",
        local_world: "PMIX_LOCAL_SIZE",
    },
];

/// The beginnings of the variables by which a process knows that it is a rank.
const PREFIXES: [&str; 5] = ["OMPI_", "PMIX_", "PMI_", "MPI_LOCAL", "SLURM_STEP_"];

/// True for a variable that makes a process a rank.
pub fn is_launchers(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"].contains(&name)
}

impl Launch {
    /// Recognizes the launcher by the variables that `get` returns. `None` without a launcher.
    ///
    /// # Errors
    /// If a variable is not a number, or the rank is not one of the world's.
    pub fn of(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let Some(names) = LAUNCHERS.iter().find(|names| names.marks.iter().all(|mark| get(mark).is_some())) else { return Ok(None) };
        let text = |name: &str| get(name).map(|value| (name.to_owned(), value));
        let number = |(name, value): (String, String)| -> Result<usize> {
            value.trim().parse().with_context(|| format!("{name} is {value:?}, expected a number"))
        };
        let read = |name: &str, default: usize| text(name).map_or(Ok(default), number);
        let rank = read(names.rank, 0)?;
        let world = names.world.map(|name| read(name, 1)).transpose()?;
        let local_world = match names.launcher {
            // A process of a Kubernetes job without torchrun has the host, and a GPU, for itself.
            Launcher::Torchrun => read(names.local_world, 1)?,
            Launcher::Slurm => match text(names.local_world) {
                Some((_, tasks)) => tasks_of_node(&tasks, read("SLURM_NODEID", 0)?)
                    .with_context(|| format!("{} is {tasks:?}, expected one number a node, such as 4(x2),3", names.local_world))?,
                None => world.unwrap_or(1),
            },
            _ => read(names.local_world, world.unwrap_or(1))?,
        };
        let local_rank = read(names.local_rank, if local_world == 1 { 0 } else { rank })?;
        ensure!(world.is_none_or(|world| rank < world), "{} is {rank}, but there are {} processes", names.rank, world.unwrap_or_default());
        Ok(Some(Self { launcher: names.launcher, rank, world, local_rank, local_world }))
    }
}

/// Returns the number of tasks on a node from Slurm's list of all nodes, such as `4(x2),3` for 4, 4 and 3.
fn tasks_of_node(list: &str, node: usize) -> Option<usize> {
    let mut first = 0;
    for part in list.split(',') {
        let (tasks, nodes) = match part.split_once("(x") {
            Some((tasks, nodes)) => (tasks, nodes.strip_suffix(')')?.parse().ok()?),
            None => (part, 1),
        };
        if node < first + nodes {
            return tasks.parse().ok();
        }
        first += nodes;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads variables given as `A=1 B=2`.
    fn launch(variables: &str) -> Result<Option<Launch>> {
        let pairs: Vec<(&str, &str)> = variables.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
        Launch::of(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    const OPEN_MPI: &str = "OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=4 \
                            PMIX_RANK=5 PMIX_NAMESPACE=prterun-host-1@1";
    const HYDRA: &str = "PMI_RANK=5 PMI_SIZE=8 PMI_FD=9 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=4";
    const TORCHRUN: &str = "RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4 MASTER_ADDR=node0 MASTER_PORT=29500";
    const BATCH: &str = "SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_TASKS_PER_NODE=4(x2)";
    const STEP: &str = "SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_PROCID=5 SLURM_STEP_NUM_TASKS=8 SLURM_LOCALID=1 SLURM_NODEID=1 \
                        SLURM_STEP_TASKS_PER_NODE=4(x2)";

    #[test]
    fn launch_recognizes_each_launcher() {
        let check = |variables: &str, launcher: Launcher| {
            let expected = Launch { launcher, rank: 5, world: Some(8), local_rank: 1, local_world: 4 };
            assert_eq!(launch(variables).unwrap(), Some(expected), "{variables}");
        };
        check(OPEN_MPI, Launcher::OpenMpi);
        check(HYDRA, Launcher::Hydra);
        check(TORCHRUN, Launcher::Torchrun);
        check(STEP, Launcher::Slurm);
        // srun with PMI-2 or PMIx is srun; a launcher that srun has started on each host is the launcher.
        check(&format!("{STEP} PMI_RANK=5 PMI_SIZE=8 PMIX_RANK=5 PMIX_NAMESPACE=slurm.7.0"), Launcher::Slurm);
        for (inner, launcher) in [(OPEN_MPI, Launcher::OpenMpi), (HYDRA, Launcher::Hydra), (TORCHRUN, Launcher::Torchrun)] {
            let hosts = STEP.replace("PROCID=5", "PROCID=1").replace("NUM_TASKS=8", "NUM_TASKS=2");
            check(&format!("{hosts} {inner}"), launcher);
        }
    }

    #[test]
    fn launch_is_none_without_a_launcher() {
        let check = |variables: &str| assert_eq!(launch(variables).unwrap(), None, "{variables}");
        check("PATH=/usr/bin OMPI_MCA_btl=tcp");
        check(BATCH);
        check("RANK=3");
        check("RANK=0 WORLD_SIZE=1");
    }

    #[test]
    fn launch_fills_in_what_launchers_do_not_say() {
        let check = |variables: &str, world: Option<usize>, local: (usize, usize)| {
            let found = launch(variables).unwrap().unwrap();
            assert_eq!((found.world, (found.local_rank, found.local_world)), (world, local), "{variables}");
        };
        check("PMIX_RANK=2 PMIX_NAMESPACE=x", None, (0, 1));
        // A Kubernetes job with a process per pod.
        check("RANK=2 WORLD_SIZE=4 MASTER_ADDR=job-0", Some(4), (0, 1));
        check(&STEP.replace("4(x2)", "6,2"), Some(8), (1, 2));
    }

    #[test]
    fn launch_refuses_variables_that_make_no_sense() {
        let check = |variables: &str, expected: &str| {
            let error = format!("{:#}", launch(variables).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        check(&OPEN_MPI.replace("SIZE=8", "SIZE=many"), "OMPI_COMM_WORLD_SIZE is \"many\", expected a number");
        check(&HYDRA.replace("RANK=5", "RANK=8"), "PMI_RANK is 8, but there are 8 processes");
        check(&STEP.replace("4(x2)", "4"), "SLURM_STEP_TASKS_PER_NODE is \"4\", expected one number a node");
    }

    #[test]
    fn tasks_of_node_reads_slurms_lists() {
        let all = |list: &str| (0..4).map(|node| tasks_of_node(list, node)).collect::<Vec<_>>();
        assert_eq!(all("4(x2),3"), [Some(4), Some(4), Some(3), None]);
        assert_eq!(all("2"), [Some(2), None, None, None]);
        assert_eq!(all("2(x3"), [None; 4]);
    }
}
