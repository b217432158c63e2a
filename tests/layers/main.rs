//! Checks the sources against the layers in `src/lib.rs`: imports go down the layers, the children of a module do not import each other in
//! cycles, and only the kernels and the libraries of ranks contain unsafe code.
#![allow(clippy::unwrap_used)] // an unexpected `None` or `Err` fails the test

mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sources::{Module, Sources, Use};

/// Top-level modules from the bottom layer up. Modules in the same layer do not import each other.
const LAYERS: [&[&str]; 15] = [
    &["input", "interrupt", "output", "usage", "version"],
    &["rng", "flow", "workers", "config", "dist"],
    &["data", "text", "verify", "kernels"],
    &["objective"],
    &["model", "reward"],
    &["optim", "rollout"],
    &["checkpoint", "metrics"],
    &["tiny"],
    &["eval", "source"],
    &["plot"],
    &["train"],
    &["bench", "study"],
    &["report"],
    &["cli"],
    &["testing"],
];

fn crate_sources() -> Sources {
    let sources = Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.count() > 200, "{} files", sources.count());
    sources
}

#[test]
fn imports_go_down_the_layers() {
    let sources = crate_sources();
    let layer: BTreeMap<&str, usize> =
        LAYERS.iter().enumerate().flat_map(|(height, modules)| modules.iter().map(move |module| (*module, height))).collect();
    let height = |module: &Module| {
        module
            .first()
            .map(|name| *layer.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no layer: add it to LAYERS and to src/lib.rs")))
    };
    let uses = sources.uses();
    let goes_up = |used: &&Use| used.from[0] != used.to[0] && height(&used.to) >= height(&used.from);
    let is_between_modules = |used: &&Use| !used.from.is_empty() && !used.to.is_empty();
    let wrong: Vec<String> = uses.iter().filter(is_between_modules).filter(goes_up).map(|used| describe(&sources, used)).collect();
    assert!(wrong.is_empty(), "imports that do not go down:\n{}", wrong.join("\n"));
}

/// Modules whose files call each other because expressions are nested: a term contains commands with terms as arguments, and comparing two
/// lists compares their items.
const RECURSIVE: [&str; 3] = ["verify::compare", "verify::read", "verify::value"];

#[test]
fn modules_do_not_import_each_other_in_cycles() {
    let sources = crate_sources();
    let parent = |cycle: &Vec<Use>| RECURSIVE.into_iter().find(|parent| cycle[0].from.join("::").starts_with(&format!("{parent}::")));
    let cycles = cycles(&sources.uses());
    let recursive: BTreeSet<&str> = cycles.iter().filter_map(parent).collect();
    assert_eq!(recursive, RECURSIVE.into(), "RECURSIVE lists a module without cycles");
    let show = |cycle: &Vec<Use>| cycle.iter().map(|used| describe(&sources, used)).collect::<Vec<_>>().join("\n");
    let wrong: Vec<String> = cycles.iter().filter(|cycle| parent(cycle).is_none()).map(show).collect();
    assert!(wrong.is_empty(), "import cycles:\n{}", wrong.join("\n\n"));
}

/// Only the kernels and the modules that call C libraries of ranks may contain unsafe code.
#[test]
fn unsafe_code_is_only_in_kernels_and_libraries_of_ranks() {
    let sources = crate_sources();
    let home = |module: &Module| if module[0] == "dist" { module[..2].join("::") } else { module[0].clone() };
    let found: BTreeSet<String> = sources.unsafe_modules().map(home).collect();
    assert_eq!(found, ["dist::device", "dist::mpi", "dist::nccl", "kernels"].map(String::from).into());
}

fn describe(sources: &Sources, used: &Use) -> String {
    format!("  {} uses {}", sources.path(&used.from).display(), sources.path(&used.to).display())
}

/// Returns a shortest import cycle through each child of a module, for all modules; a child includes everything below it. Imports between a
/// module and its own children do not count.
fn cycles(uses: &BTreeSet<Use>) -> BTreeSet<Vec<Use>> {
    // The uses among the children of each parent.
    let mut families: BTreeMap<Module, Family> = BTreeMap::new();
    for used in uses {
        let shared = used.from.iter().zip(&used.to).take_while(|(from, to)| from == to).count();
        if let (Some(from), Some(to)) = (used.from.get(shared), used.to.get(shared)) {
            let family = families.entry(used.from[..shared].to_vec()).or_default();
            family.entry(from.clone()).or_default().entry(to.clone()).or_insert_with(|| used.clone());
        }
    }
    families.values().flat_map(|family| family.keys().filter_map(|child| shortest_cycle(family, child))).collect()
}

/// The uses among a module's children: for each child, the children that it uses, with one such use each.
type Family = BTreeMap<String, BTreeMap<String, Use>>;

/// Returns a shortest cycle from a child back to itself; `None` if there is none. It is rotated to start with its smallest use, so that a
/// cycle found from several children is the same.
fn shortest_cycle(family: &Family, start: &String) -> Option<Vec<Use>> {
    let (mut paths, mut seen) = (vec![(start, Vec::new())], BTreeSet::new());
    while !paths.is_empty() {
        let mut longer = Vec::new();
        for (child, path) in paths {
            for (next, used) in family.get(child).into_iter().flatten() {
                let mut path: Vec<Use> = path.iter().chain([used]).cloned().collect();
                if next == start {
                    let least = (0..path.len()).min_by_key(|index| &path[*index])?;
                    path.rotate_left(least);
                    return Some(path);
                }
                if seen.insert(next) {
                    longer.push((next, path));
                }
            }
        }
        paths = longer;
    }
    None
}

#[test]
fn uses_finds_imports_and_paths_in_every_form() {
    let sources = Sources::of(&[
        ("", "pub mod cli; pub mod eval; pub mod model; pub mod train;"),
        (
            "eval",
            "mod run; mod score; pub use run::{run, Run as Evaluation}; pub use self::score::Score; use crate::{model::{self, Decoder}};",
        ),
        (
            "eval::run",
            "#[cfg(test)] use crate::cli::main; use super::Score; pub struct Run; #[cfg(test)] mod tests { use crate::train::Run; }",
        ),
        (
            "eval::score",
            "pub struct Score; #[cfg(test)] fn f() { crate::train::run() } fn g() {} fn h() -> crate::model::Decoder { todo!() }",
        ),
        ("model", "pub struct Decoder; // crate::cli::main\n#[cfg(feature = \"cuda\")] use crate::train::Run;"),
        (
            "train",
            "pub use crate::cli::Given; use crate::eval; fn f() { println!(\"{}\", [eval::Score::MEAN, super::model::WIDTH]) } fn g() { use crate::eval::Evaluation; }",
        ),
        ("cli", "pub struct Given; fn f() { let run: Box<dyn Fn(crate::train::Given)>; }"),
    ]);
    let name = |module: Module| module.join("::");
    let found: Vec<(String, String)> = sources.uses().into_iter().map(|used| (name(used.from), name(used.to))).collect();
    let expected = [
        // A name that `train` re-exports belongs to the module that defines it.
        ("eval", "model"),
        ("eval::run", "eval::score"),
        ("eval::score", "model"),
        ("model", "train"),
        ("train", "eval"),
        ("train", "eval::run"),
        ("train", "eval::score"),
        ("train", "model"),
    ];
    assert_eq!(found, expected.map(|(from, to)| (from.to_owned(), to.to_owned())));
}

#[test]
fn cycles_finds_cycles_among_siblings_at_any_depth() {
    let check = |uses: &[(&str, &str)], expected: usize| {
        let module = |name: &str| name.split("::").map(String::from).collect::<Module>();
        let uses = uses.iter().map(|(from, to)| Use { from: module(from), to: module(to) }).collect();
        assert_eq!(cycles(&uses).len(), expected, "{uses:?}");
    };
    check(&[("a", "b"), ("b", "c")], 0);
    check(&[("a", "b"), ("b", "c"), ("c", "a")], 1);
    check(&[("a::x", "b"), ("b", "a::y")], 1);
    check(&[("a::x", "a::y"), ("a::y", "a::z::deep"), ("a::z", "a::x")], 1);
    check(&[("a", "a::x"), ("a::x", "a")], 0);
    check(&[("a", "b"), ("b", "a"), ("c::x", "c::y"), ("c::y", "c::x")], 2);
}
