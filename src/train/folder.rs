//! The folder of a run: the paths of its records, and protection against overwriting them by accident.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::settings::RunSettings;
use crate::checkpoint::lock::{FolderInUse, FolderLock};
use crate::checkpoint::{sync_folder, write_file};
use crate::config;
use crate::data::example;

/// Subfolders of a run folder.
const PARTS: [&str; 3] = ["rollouts", "eval", "checkpoints"];

/// The extension added to a corrupt folder that is kept aside.
const SET_ASIDE: &str = "broken";

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    root: PathBuf,
    /// The writer's lock, held until the last clone is dropped; `None` for readers.
    lock: Option<Arc<FolderLock>>,
}

impl RunFolder {
    /// Returns an unused path: `runs/MODEL-EXAMPLE`, with a number appended if it exists.
    pub fn free(settings: &RunSettings) -> PathBuf {
        let model =
            Path::new(&settings.model).file_name().map_or_else(|| settings.model.clone(), |name| name.to_string_lossy().into_owned());
        let example = example::title(&settings.example);
        let example = Path::new(&example).file_stem().map_or_else(|| example.clone(), |name| name.to_string_lossy().into_owned());
        let name: String =
            format!("{model}-{example}").chars().map(|c| if c.is_ascii_alphanumeric() || "+-._".contains(c) { c } else { '-' }).collect();
        let numbered = (2..).map(|n| Path::new("runs").join(format!("{name}-{n}")));
        std::iter::once(Path::new("runs").join(&name)).chain(numbered).find(|path| !path.exists()).unwrap_or_default()
    }

    /// Creates a new run folder, locks it and records the settings in it.
    ///
    /// # Errors
    /// [`FolderInUse`] if the folder exists; other errors if it cannot be created or written.
    pub fn create(root: &Path, settings: &RunSettings) -> Result<Self> {
        let cannot = || format!("cannot create {}", root.display());
        std::fs::create_dir_all(root.parent().unwrap_or(Path::new(""))).with_context(cannot)?;
        match std::fs::create_dir(root) {
            // If two runs start at once, the one that creates the folder gets it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(FolderLock::holder(root).unwrap_or_else(|| FolderInUse { folder: root.to_owned(), holder: None }).into());
            }
            made => made.with_context(cannot)?,
        }
        let mut folder = Self { root: root.to_owned(), lock: None };
        folder.lock()?;
        for part in PARTS {
            let path = root.join(part);
            std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        }
        folder.record(settings)?;
        folder.sync_records()?;
        Ok(folder)
    }

    /// Writes all settings to `config.toml`.
    ///
    /// # Errors
    /// If the settings cannot be serialized or the file cannot be written.
    pub fn record(&self, settings: &RunSettings) -> Result<()> {
        write_file(&self.config(), toml::to_string(settings)?.as_bytes())
    }

    /// Locks the folder for writing until the last clone is dropped.
    ///
    /// # Errors
    /// [`FolderInUse`] if another process writes there; other errors if the lock file cannot be opened.
    pub fn lock(&mut self) -> Result<()> {
        self.lock = Some(Arc::new(FolderLock::take(&self.root)?));
        Ok(())
    }

    /// Opens an existing run folder for reading and returns its settings.
    ///
    /// # Errors
    /// If the folder or its `config.toml` is missing, or the settings cannot be parsed.
    pub fn open(root: &Path) -> Result<(Self, RunSettings)> {
        let folder = Self { root: root.to_owned(), lock: None };
        let path = root.display();
        ensure!(root.exists(), "{path} is not a run folder: there is no such folder");
        ensure!(
            folder.config().exists() || !folder.is_begun(),
            "{path} is not a run folder yet: the run was killed before it had written config.toml, so nothing is lost. Delete the folder and \
             start the run again with the same arguments"
        );
        ensure!(folder.config().exists(), "{path} is not a run folder: it has no config.toml");
        let settings = config::read_recorded(&folder.config())?;
        Ok((folder, settings))
    }

    /// True if all subfolders exist and are empty.
    fn is_begun(&self) -> bool {
        PARTS.iter().all(|part| std::fs::read_dir(self.root.join(part)).is_ok_and(|mut entries| entries.next().is_none()))
    }

    /// Opens the run folder that contains a checkpoint; `None` if the checkpoint is not in one.
    pub fn of_checkpoint(checkpoint: &Path) -> Option<(Self, RunSettings)> {
        let checkpoints = checkpoint.parent().filter(|folder| folder.file_name().is_some_and(|name| name == "checkpoints"))?;
        Self::open(checkpoints.parent()?).ok()
    }

    /// The path of the folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `config.toml`: all settings.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// `metrics.jsonl`: one line per step.
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// `labels.jsonl`: the labels that replace an example's own answer, one per line; missing if there are none.
    pub fn labels(&self) -> PathBuf {
        self.root.join("labels.jsonl")
    }

    /// `summary.json`: the result in numbers.
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }

    /// `curves.svg`: the result as a picture.
    pub fn picture(&self) -> PathBuf {
        self.root.join("curves.svg")
    }

    /// The responses of a step, as gzipped JSON lines.
    pub fn rollouts(&self, step: u64) -> PathBuf {
        self.root.join("rollouts").join(format!("{step:05}.jsonl.gz"))
    }

    /// The responses of the step whose update ended the run, as gzipped JSON lines that `--replay` reads.
    pub fn diverged(&self, step: u64) -> PathBuf {
        self.root.join("diverged").join(format!("{step:05}.jsonl.gz"))
    }

    /// The evaluation after a step: a file of graded responses per pass, and `scores.json`.
    pub fn eval(&self, step: u64) -> PathBuf {
        self.root.join("eval").join(format!("{step:05}"))
    }

    /// The checkpoint after a step.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.root.join("checkpoints").join(format!("{step:05}"))
    }

    /// The best checkpoint.
    pub fn best(&self) -> PathBuf {
        self.root.join("checkpoints").join("best")
    }

    /// Deletes the records of steps after `step`, which will run again, possibly with other settings. Also deletes the best checkpoint if
    /// its step is later. Checkpoints go first, because an existing checkpoint must have its records.
    ///
    /// # Errors
    /// If a file or folder cannot be read or deleted.
    pub fn delete_after(&self, step: u64) -> Result<()> {
        let best = std::fs::read_to_string(self.best().join("step")).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let mut later: Vec<PathBuf> = best.filter(|best| *best > step).map(|_| self.best()).into_iter().collect();
        for part in ["checkpoints", "eval", "rollouts"] {
            let folder = self.root.join(part);
            for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
                let path = entry?.path();
                let name = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.ends_with(SET_ASIDE));
                let name = name.and_then(|name| name.split('.').next());
                later.extend(name.and_then(|name| name.parse::<u64>().ok()).filter(|made| *made > step).map(|_| path.clone()));
            }
        }
        for path in later {
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Renames a corrupt folder to keep it until its step has run again.
    ///
    /// # Errors
    /// If the folder cannot be renamed, or an older copy cannot be deleted.
    pub fn set_aside(&self, folder: &Path) -> Result<()> {
        let aside = folder.with_added_extension(SET_ASIDE);
        if aside.exists() {
            std::fs::remove_dir_all(&aside).with_context(|| format!("cannot remove {}", aside.display()))?;
        }
        std::fs::rename(folder, &aside).with_context(|| format!("cannot rename {}", folder.display()))
    }

    /// Deletes the copy of a folder that [`RunFolder::set_aside`] kept, if any.
    ///
    /// # Errors
    /// If the copy cannot be deleted.
    pub fn replaced(&self, folder: &Path) -> Result<()> {
        let aside = folder.with_added_extension(SET_ASIDE);
        let removed = if aside.exists() { std::fs::remove_dir_all(&aside) } else { Ok(()) };
        removed.with_context(|| format!("cannot remove {}", aside.display()))
    }

    /// Returns the rollout files in order of their steps.
    ///
    /// # Errors
    /// If the folder `rollouts` cannot be read.
    pub fn recorded(&self) -> Result<Vec<PathBuf>> {
        let folder = self.root.join("rollouts");
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        let step = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(".jsonl.gz")?.parse::<u64>().ok();
        let mut recorded: Vec<(u64, PathBuf)> = paths.into_iter().filter_map(|path| Some((step(&path)?, path))).collect();
        recorded.sort_unstable();
        Ok(recorded.into_iter().map(|(_, path)| path).collect())
    }

    /// Returns the steps with a complete evaluation, in order.
    ///
    /// # Errors
    /// If the folder `eval` cannot be read.
    pub fn evaluated_steps(&self) -> Result<Vec<u64>> {
        steps_in(&self.root.join("eval"), "scores.json")
    }

    /// Returns the steps with a resumable checkpoint, in order.
    ///
    /// # Errors
    /// If the folder `checkpoints` cannot be read.
    pub fn resumable_steps(&self) -> Result<Vec<u64>> {
        steps_in(&self.root.join("checkpoints"), "state/progress.json")
    }

    /// Returns the steps with a checkpoint state, intact or not, in order.
    ///
    /// # Errors
    /// If the folder `checkpoints` cannot be read.
    pub fn steps_with_state(&self) -> Result<Vec<u64>> {
        steps_in(&self.root.join("checkpoints"), "state")
    }

    /// Returns the steps with an exported model, in order.
    ///
    /// # Errors
    /// If the folder `checkpoints` cannot be read.
    pub fn exported_steps(&self) -> Result<Vec<u64>> {
        steps_in(&self.root.join("checkpoints"), "")
    }

    /// Syncs to disk what checkpoints depend on: the metrics, and the directory entries of rollouts and evaluations, whose contents are
    /// already synced.
    ///
    /// # Errors
    /// If a file or folder cannot be synced.
    pub fn sync_records(&self) -> Result<()> {
        for path in [self.metrics(), self.labels()].iter().filter(|path| path.exists()) {
            File::open(path).and_then(|file| file.sync_all()).with_context(|| format!("cannot sync {} to disk", path.display()))?;
        }
        ["rollouts", "eval", "checkpoints", ""].iter().try_for_each(|part| sync_folder(&self.root.join(part)))
    }
}

fn steps_in(folder: &Path, marker: &str) -> Result<Vec<u64>> {
    let mut steps = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let step = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u64>().ok());
        steps.extend(step.filter(|_| path.join(marker).exists()));
    }
    steps.sort_unstable();
    Ok(steps)
}

/// Atomically writes JSON lines as one gzipped file.
///
/// # Errors
/// If a line cannot be serialized or the file cannot be written.
pub fn write_gzip_lines(path: &Path, lines: impl IntoIterator<Item = serde_json::Value>) -> Result<()> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for line in lines {
        serde_json::to_writer(&mut encoder, &line)?;
        encoder.write_all(b"\n")?;
    }
    write_file(path, &encoder.finish()?)
}
