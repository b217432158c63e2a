//! Which MPI library belongs to the launcher: the one in the launcher's own installation, otherwise those that the system finds.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use super::library::Library;

/// The variable that names the library.
pub const VARIABLE: &str = "RLVR_MPI_LIBRARY";

/// The programs of Open MPI and MPICH that start ranks.
const LAUNCHERS: [&str; 9] = ["prterun", "prted", "prte", "orterun", "orted", "hydra_pmi_proxy", "mpiexec.hydra", "mpirun", "mpiexec"];

/// File names of libraries with the interface of Open MPI 4 and 5, with that of MPICH and its descendants (the second is Debian's), and with
/// either, or the standard one.
#[cfg(target_os = "linux")]
const NAMES: [&[&str]; 3] = [&["libmpi.so.40"], &["libmpi.so.12", "libmpich.so.12"], &["libmpi_abi.so.1", "libmpi.so"]];
#[cfg(target_os = "macos")]
const NAMES: [&[&str]; 3] = [&["libmpi.40.dylib"], &["libmpi.12.dylib"], &["libmpi_abi.1.dylib", "libmpi.dylib"]];
#[cfg(windows)]
const NAMES: [&[&str]; 3] = [&[], &["impi.dll"], &["msmpi.dll"]];
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
const NAMES: [&[&str]; 3] = [&[], &[], &["libmpi.so"]];

/// Returns the file names of libraries, first those that understand the launcher.
fn names(is_mpich: bool) -> Vec<&'static str> {
    let [open_mpi, mpich, any] = NAMES;
    if is_mpich { [mpich, any, open_mpi].concat() } else { [open_mpi, mpich, any].concat() }
}

/// Loads the library that `RLVR_MPI_LIBRARY` names; otherwise that of the launcher, or the first that the system finds. `is_mpich` says that
/// the launcher is MPICH's or a descendant's: a system may have the libraries of several MPIs in one folder.
///
/// # Errors
/// If there is none, with the names that were tried.
pub fn load(is_mpich: bool) -> Result<&'static Library> {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return Library::load(&path).with_context(|| format!("{VARIABLE} is {}, which cannot be used", path.display()));
    }
    let (folders, names) = (launcher_folders(), names(is_mpich));
    let beside: Vec<PathBuf> = folders.iter().flat_map(|folder| libraries_beside(folder, &names)).collect();
    let mut first_error = None;
    for path in beside.iter().cloned().chain(names.iter().map(PathBuf::from)) {
        match Library::load(&path) {
            Ok(library) => return Ok(library),
            Err(error) => first_error = first_error.or(beside.contains(&path).then_some(error)),
        }
    }
    let beside = match &*folders {
        [] => String::new(),
        [folder, ..] => format!(" beside {}", folder.display()),
    };
    let error = anyhow!(
        "cannot find an MPI library, which ranks need to exchange data: tried {}{beside} and where the system looks; install the library of \
         this launcher, or name it: {VARIABLE}=/path/to/{}",
        names.join(", "),
        names[0]
    );
    Err(match first_error {
        Some(cause) => error.context(format!("{cause:#}")),
        None => error,
    })
}

/// Returns the `mpirun` or `mpiexec` to start ranks with: beside the library that `RLVR_MPI_LIBRARY` names, otherwise from `PATH`.
pub fn mpirun() -> Option<PathBuf> {
    let library = std::env::var_os(VARIABLE).map(PathBuf::from);
    let beside = library.as_deref().and_then(Path::parent).into_iter().flat_map(|folder| folder.ancestors().take(3));
    let beside = beside.map(|folder| folder.join("bin"));
    let folders: Vec<PathBuf> = beside.chain(path_folders(std::env::var_os("PATH"))).collect();
    let names = if cfg!(windows) { ["mpiexec.exe", "mpirun.exe"] } else { ["mpirun", "mpiexec"] };
    folders.iter().flat_map(|folder| names.map(|name| folder.join(name))).find(|path| path.is_file())
}

fn path_folders(path: Option<OsString>) -> Vec<PathBuf> {
    path.map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// Returns the folders with the programs of the launcher: the installation that Open MPI names, the programs that started this process, and
/// the `mpirun` in `PATH`.
fn launcher_folders() -> Vec<PathBuf> {
    let named = std::env::var_os("OPAL_PREFIX").map(|prefix| PathBuf::from(prefix).join("bin"));
    let started = ancestors().into_iter().filter(|path| is_launcher(path));
    let folder = |path: PathBuf| path.parent().map(Path::to_path_buf);
    let in_path = mpirun().and_then(|path| path.canonicalize().ok());
    let mut folders: Vec<PathBuf> = named.into_iter().chain(started.chain(in_path).filter_map(folder)).collect();
    folders.dedup();
    folders
}

fn is_launcher(program: &Path) -> bool {
    program.file_name().is_some_and(|name| LAUNCHERS.iter().any(|launcher| name == *launcher))
}

/// Returns the libraries of the installation whose programs are in `folder`.
fn libraries_beside(folder: &Path, names: &[&str]) -> Vec<PathBuf> {
    let roots = folder.parent().into_iter().flat_map(|root| ["lib", "lib64"].map(|name| root.join(name)));
    roots.flat_map(|root| names.iter().map(move |name| root.join(name))).filter(|path| path.is_file()).collect()
}

/// Returns the programs of this process's parents, nearest first.
#[cfg(target_os = "linux")]
fn ancestors() -> Vec<PathBuf> {
    let parent = |pid: &u32| parent_of(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
    let parents = std::iter::successors(parent(&std::process::id()), parent).take_while(|pid| *pid > 1);
    parents.filter_map(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok()).collect()
}

#[cfg(not(target_os = "linux"))]
fn ancestors() -> Vec<PathBuf> {
    Vec::new()
}

/// Reads the parent's number in `/proc/PID/stat`: the second field after the name, which is in parentheses and may contain any character.
#[cfg(target_os = "linux")]
fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn parent_of_reads_names_with_parentheses() {
        assert_eq!(parent_of("12 (prterun) S 7 12 3"), Some(7));
        assert_eq!(parent_of("12 (a) b (c)) R 45 12 3"), Some(45));
        assert_eq!(parent_of("12"), None);
        assert!(ancestors().iter().all(|path| path.is_absolute()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn libraries_beside_finds_the_installation_of_a_program() {
        let root = tempfile::tempdir().unwrap();
        let (programs, libraries) = (root.path().join("bin"), root.path().join("lib"));
        std::fs::create_dir_all(&libraries).unwrap();
        assert_eq!(libraries_beside(&programs, &names(false)), Vec::<PathBuf>::new());
        let [open_mpi, mpich] = ["libmpi.so.40", "libmpich.so.12"].map(|name| libraries.join(name));
        [&mpich, &open_mpi].into_iter().for_each(|path| std::fs::write(path, "").unwrap());
        assert_eq!(libraries_beside(&programs, &names(false)), [&*open_mpi, &*mpich]);
        assert_eq!(libraries_beside(&programs, &names(true)), [mpich, open_mpi]);
        assert!(is_launcher(Path::new("/opt/bin/prterun")) && !is_launcher(Path::new("/usr/bin/bash")));
    }
}
