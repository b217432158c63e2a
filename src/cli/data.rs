//! `rlvr data`: lists, downloads and checks the published files.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::arguments::{DataArgs, JsonArgs};
use crate::data::benchmark::{BENCHMARKS, Source};
use crate::data::registry::{self, NamedFile};
use crate::data::{DataStore, FileStatus};
use crate::metrics::table;
use crate::usage::usage;

#[derive(Debug, Args)]
pub struct DataCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List every known file with its rows, decoding, state and source
    List {
        #[command(flatten)]
        json: JsonArgs,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Download missing files, check them, and print their paths
    Pull {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Check the checksums and rows of local files, without downloading anything
    ///
    /// Fails if a file is missing or corrupt.
    Check {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        data: DataArgs,
    },
}

#[derive(Debug, Args)]
struct Which {
    #[arg(default_value = "all", value_delimiter = ',', help = format!("Comma-separated names of files: {}", registry::known()))]
    names: Vec<String>,
}

impl Which {
    fn files(&self) -> Result<Vec<NamedFile>> {
        usage(registry::select(&self.names.join(",")))
    }
}

pub fn run(command: DataCommand) -> Result<ExitCode> {
    match command.action {
        Action::List { json, data } => list(&usage(data.store())?, json).map(|()| ExitCode::SUCCESS),
        Action::Pull { which, data } => pull(&which.files()?, &usage(data.store())?).map(|()| ExitCode::SUCCESS),
        Action::Check { which, data } => check(&which.files()?, &usage(data.store())?),
    }
}

fn list(store: &DataStore, form: JsonArgs) -> Result<()> {
    let (mut rows, mut records) = (Vec::new(), Vec::<Value>::new());
    for named in registry::all() {
        let (status, file) = (store.locate(&named.file)?, named.file);
        let (state, json_state) = state(&status);
        let benchmark = BENCHMARKS.iter().find(|benchmark| benchmark.name == named.name);
        let decoding = benchmark.map_or_else(String::new, |benchmark| match benchmark.decoding.samples {
            1 => "greedy".to_owned(),
            samples => format!("avg@{samples} at {}", benchmark.decoding.temperature),
        });
        let path = path_of(&status).map(|path| path.display().to_string());
        records.push(json!({"name": named.name, "rows": named.rows, "decoding": decoding, "state": json_state, "path": path,
            "repository": file.repository, "commit": file.commit, "source": file.path, "sha256": file.sha256}));
        rows.push(vec![named.name.into(), named.rows.to_string(), decoding, state.into(), file.local.into()]);
    }
    for benchmark in BENCHMARKS {
        let Source::Own { local, .. } = benchmark.source else { continue };
        let state = if store.user_file(local).is_some() { "in the data folder" } else { "your own file" };
        rows.push(vec![benchmark.name.into(), String::new(), benchmark.decoding.to_string(), state.into(), local.into()]);
    }
    let header = ["name", "rows", "decoding", "state", "below the data folder"];
    form.print(|| Ok(json!({"files": records})), || print_result!("{}", table(&header, &rows)))?;
    let sources: BTreeSet<String> =
        registry::all().iter().map(|named| format!("{} at commit {}", named.file.repository, named.file.commit)).collect();
    let sources = sources.into_iter().collect::<Vec<_>>().join(", ");
    message!("source: {sources}; downloads are cached in {}", store.cache().display());
    Ok(())
}

fn pull(files: &[NamedFile], store: &DataStore) -> Result<()> {
    for named in files {
        print_result!("{}", store.path(&named.file)?.display());
    }
    Ok(())
}

fn check(files: &[NamedFile], store: &DataStore) -> Result<ExitCode> {
    let mut failed = 0;
    for named in files {
        let verdict = match store.locate(&named.file)? {
            FileStatus::Folder(path) | FileStatus::Cache(path) => {
                named.read(store).map(|rows| format!("{rows} rows, sha256 as published, {}", path.display()))
            }
            FileStatus::Corrupt(path, found) => Err(anyhow::anyhow!(
                "{} is not the published file: sha256 {found}, expected {}; delete it and run rlvr data pull {}",
                path.display(),
                named.file.sha256,
                named.name
            )),
            FileStatus::Missing => Err(anyhow::anyhow!("missing; download it with rlvr data pull {}", named.name)),
        };
        match verdict {
            Ok(text) => print_result!("{}: {text}", named.name),
            Err(error) => {
                failed += 1;
                print_result!("{}: {error:#}", named.name);
            }
        }
    }
    message!("{} of {} files match the published checksums", files.len() - failed, files.len());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the state of a file in words: for the table, and for JSON output, whose words scripts know from earlier versions.
fn state(status: &FileStatus) -> (&'static str, &'static str) {
    match status {
        FileStatus::Folder(_) => ("in the data folder", "in the folder"),
        FileStatus::Cache(_) => ("in the cache", "in the cache"),
        FileStatus::Corrupt(..) => ("corrupt", "spoiled"),
        FileStatus::Missing => ("missing", "not here"),
    }
}

fn path_of(status: &FileStatus) -> Option<&std::path::Path> {
    match status {
        FileStatus::Folder(path) | FileStatus::Cache(path) | FileStatus::Corrupt(path, _) => Some(path),
        FileStatus::Missing => None,
    }
}
