//! Stores the algorithms that timing chose in a file in the user's cache folder. A product then has the same algorithm, and so the same bits,
//! in every process on this machine, and a resumed run continues with the algorithms that it started with.
//!
//! The first process that times a shape decides. All later and concurrent processes use the choice in the file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::algorithm::Algorithm;
use super::shape::Shape;

/// The version of the file format.
const FORMAT: u32 = 1;

/// The machine for which choices are valid. Another GPU has other algorithms, and another version of cuBLASLt may interpret them differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The GPU's name, as the driver reports it.
    pub card: String,
    /// The GPU's compute capability, such as "9.0".
    pub capability: String,
    /// The version of cuBLASLt.
    pub cublaslt: usize,
}

/// The algorithm chosen for a shape.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TunedAlgorithm {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Its measured time.
    pub microseconds: f32,
}

/// The choices for this machine, by shape.
#[derive(Debug)]
pub struct AlgorithmCache {
    machine: Machine,
    file: Option<PathBuf>,
    known: BTreeMap<String, TunedAlgorithm>,
}

/// The contents of the file: the machine, the choices, and a checksum of both.
#[derive(Serialize, Deserialize)]
struct StoredChoices {
    format: u32,
    #[serde(flatten)]
    machine: Machine,
    choices: BTreeMap<String, TunedAlgorithm>,
    checksum: String,
}

/// Returns the folder for the file: `$XDG_CACHE_HOME/rlvr` or `~/.cache/rlvr`; `None` if neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache_folder() -> Option<PathBuf> {
    let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache"))).map(|cache| cache.join("rlvr"))
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with compute capability {} and cuBLASLt {}", self.card, self.capability, self.cublaslt)
    }
}

impl AlgorithmCache {
    /// Reads this machine's choices from the folder. A file that cannot be used is ignored with a warning, and products are timed again.
    pub fn open(folder: Option<&Path>, machine: Machine) -> Self {
        let name = machine.card.to_lowercase().replace(|char: char| !char.is_ascii_alphanumeric(), "-");
        let file = folder.map(|folder| folder.join(format!("products-{name}-cublaslt-{}.json", machine.cublaslt)));
        let known = file.as_deref().map_or(Ok(BTreeMap::new()), |file| read(file, &machine));
        let known = known.unwrap_or_else(|reason| {
            tracing::warn!("{reason}: ignoring it and timing products again, so a resumed run may differ in its last bits");
            BTreeMap::new()
        });
        Self { machine, file, known }
    }

    /// Returns the choice for a shape; `None` if it has not been timed.
    pub fn get(&self, shape: &Shape) -> Option<TunedAlgorithm> {
        self.known.get(&shape.to_string()).copied()
    }

    /// Stores a choice for a shape. Returns the valid choice: an earlier one in the file, if another process was first.
    pub fn insert(&mut self, shape: &Shape, choice: TunedAlgorithm) -> TunedAlgorithm {
        if self.known.is_empty() {
            let file = self.file.as_ref().map(|file| file.display().to_string());
            tracing::info!(
                file,
                "timing matrix products on this machine for the first time; keep the file so that resumed runs are bit-identical"
            );
        }
        let key = shape.to_string();
        self.known.insert(key.clone(), choice);
        if let Some(file) = &self.file {
            match exchange(file, &self.machine, &self.known, &key) {
                Ok(known) => self.known = known,
                Err(error) => {
                    tracing::warn!(
                        "cannot store the algorithms of products in {} ({error}): a resumed run may use others and differ in its last bits",
                        file.display()
                    );
                    // Warn only once.
                    self.file = None;
                }
            }
        }
        self.known[&key]
    }
}

/// Returns the checksum of the file's contents.
fn checksum(machine: &Machine, choices: &BTreeMap<String, TunedAlgorithm>) -> String {
    let text = serde_json::to_string(&(FORMAT, machine, choices)).unwrap_or_default();
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Reads the choices in a file. Returns no choices if there is no file.
///
/// # Errors
/// If the file cannot be read, is corrupt, or is for another machine or format.
fn read(file: &Path, machine: &Machine) -> Result<BTreeMap<String, TunedAlgorithm>, String> {
    #[derive(Deserialize)]
    struct Header {
        format: u32,
        #[serde(flatten)]
        machine: Machine,
    }
    let path = file.display();
    let corrupt = |reason: &dyn fmt::Display| format!("{path} is corrupt ({reason})");
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(format!("{path} cannot be read ({error})")),
    };
    let header: Header = serde_json::from_slice(&bytes).map_err(|error| corrupt(&error))?;
    if header.format != FORMAT {
        return Err(format!("{path} has format {}, but this program reads format {FORMAT}", header.format));
    }
    if header.machine != *machine {
        return Err(format!("{path} is for the {}, but this machine is the {machine}", header.machine));
    }
    let stored: StoredChoices = serde_json::from_slice(&bytes).map_err(|error| corrupt(&error))?;
    match checksum(machine, &stored.choices) == stored.checksum {
        true => Ok(stored.choices),
        false => Err(corrupt(&"its checksum does not match")),
    }
}

/// Merges `known` with the choices in the file, writes the result to the file, and returns it. For `key`, a choice in the file wins; for other
/// shapes, the choice in `known`. A lock makes other processes wait.
fn exchange(
    file: &Path,
    machine: &Machine,
    known: &BTreeMap<String, TunedAlgorithm>,
    key: &str,
) -> io::Result<BTreeMap<String, TunedAlgorithm>> {
    fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
    let lock = File::create(file.with_added_extension("lock"))?;
    lock.lock()?;
    // If the file cannot be used, `open` has already warned about it. It is replaced.
    let stored = read(file, machine).unwrap_or_default();
    let mut all = known.clone();
    for (shape, choice) in stored {
        if shape == key {
            all.insert(shape, choice);
        } else {
            all.entry(shape).or_insert(choice);
        }
    }
    let text = serde_json::to_vec_pretty(&StoredChoices {
        format: FORMAT,
        machine: machine.clone(),
        checksum: checksum(machine, &all),
        choices: all.clone(),
    })?;
    let partial = file.with_added_extension("partial");
    let mut out = File::create(&partial)?;
    out.write_all(&text)?;
    out.sync_all()?;
    fs::rename(&partial, file)?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    fn machine(gpu: &str) -> Machine {
        Machine { card: gpu.to_owned(), capability: "9.0".to_owned(), cublaslt: 130_100 }
    }

    fn shape(m: usize) -> Shape {
        let (factors, result) = (DType::BF16, DType::BF16);
        Shape { m, k: 64, n: 48, a_transposed: false, b_transposed: false, factors, result, bias: false, addend: false }
    }

    fn choice(number: u64) -> TunedAlgorithm {
        TunedAlgorithm { algorithm: Algorithm([number, u64::MAX, 0, 1, 2, 3, 4, 5]), microseconds: 0.1 + number as f32 }
    }

    #[test]
    fn algorithm_cache_for_a_gpu_returns_the_choice_of_the_first_process() {
        let folder = tempfile::tempdir().unwrap();
        let open = || AlgorithmCache::open(Some(folder.path()), machine("NVIDIA H200"));
        let (mut first, mut second) = (open(), open());
        assert_eq!(first.get(&shape(16)), None);
        assert_eq!(first.insert(&shape(16), choice(1)), choice(1));
        // The second process has not read the file, and has timed the same shape with another result.
        assert_eq!(second.insert(&shape(16), choice(2)), choice(1));
        assert_eq!(second.insert(&shape(32), choice(3)), choice(3));
        assert_eq!(first.insert(&shape(64), choice(4)), choice(4));
        let read = open();
        assert_eq!([16, 32, 64].map(|m| read.get(&shape(m))), [1, 3, 4].map(|number| Some(choice(number))));
        // If the file is deleted during a run, it is written again with the run's choices.
        fs::remove_file(read.file.as_ref().unwrap()).unwrap();
        first.insert(&shape(128), choice(5));
        assert_eq!([16, 32, 64, 128].map(|m| open().get(&shape(m))), [1, 3, 4, 5].map(|number| Some(choice(number))));
    }

    #[test]
    fn read_refuses_choices_of_another_gpu_or_format_and_corrupt_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut choices = AlgorithmCache::open(Some(folder.path()), machine("NVIDIA H200"));
        choices.insert(&shape(16), choice(1));
        let file = choices.file.unwrap();
        assert!(file.ends_with("products-nvidia-h200-cublaslt-130100.json"), "{}", file.display());
        let refused = |machine: &Machine| read(&file, machine).unwrap_err();
        let other = refused(&machine("NVIDIA H100"));
        let expected = "is for the NVIDIA H200 with compute capability 9.0 and cuBLASLt 130100, but this machine is the NVIDIA H100 with";
        assert!(other.contains(expected), "{other}");
        assert!(refused(&Machine { cublaslt: 130_200, ..machine("NVIDIA H200") }).contains("cuBLASLt 130200"));
        let text = fs::read_to_string(&file).unwrap();
        for (from, to, expected) in [
            ("\"format\": 1", "\"format\": 2", "has format 2, but this program reads format 1"),
            ("18446744073709551615", "18446744073709551614", "is corrupt (its checksum does not match)"),
            ("\"choices\"", "\"chances\"", "is corrupt (missing field `choices`"),
            ("}", "", "is corrupt ("),
        ] {
            assert!(text.contains(from), "{text}");
            fs::write(&file, text.replace(from, to)).unwrap();
            let refused = refused(&machine("NVIDIA H200"));
            assert!(refused.contains(expected), "{refused}");
            // The file is ignored, and the next choice replaces it.
            let mut choices = AlgorithmCache::open(Some(folder.path()), machine("NVIDIA H200"));
            assert_eq!(choices.get(&shape(16)), None);
            choices.insert(&shape(32), choice(2));
            assert_eq!(AlgorithmCache::open(Some(folder.path()), machine("NVIDIA H200")).get(&shape(32)), Some(choice(2)));
        }
    }

    #[test]
    fn algorithm_cache_for_a_gpu_works_without_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a-file");
        fs::write(&file, "").unwrap();
        for folder in [None, Some(file.as_path())] {
            let mut choices = AlgorithmCache::open(folder, machine("NVIDIA H200"));
            assert_eq!(choices.insert(&shape(16), choice(1)), choice(1));
            assert_eq!(choices.insert(&shape(32), choice(2)), choice(2));
            assert_eq!(choices.get(&shape(16)), Some(choice(1)));
        }
    }
}
