//! Finds the crate's modules and their uses of each other by parsing Rust: complete `use` trees, paths in code, and paths inside macros.
//! Ignores code under `#[cfg(test)]`. Knows nothing about layers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// A module's path from the crate root, such as `["train", "run"]`; the root itself is empty.
pub type Module = Vec<String>;

/// The modules of a crate.
#[derive(Default)]
pub struct Sources {
    files: BTreeMap<Module, SourceFile>,
}

/// One file of the crate.
struct SourceFile {
    path: PathBuf,
    /// Names that the file imports or re-exports, with the full path of each.
    names: BTreeMap<String, Vec<String>>,
    /// Paths in private `use` items and in code, from the crate root; paths to other crates are left out.
    paths: Vec<Vec<String>>,
    has_unsafe: bool,
}

/// One module uses another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    pub from: Module,
    pub to: Module,
}

impl Sources {
    /// Reads `lib.rs` in `folder` and all its modules, except those for tests.
    pub fn read(folder: &Path) -> Self {
        let mut sources = Self::default();
        sources.add(Vec::new(), &folder.join("lib.rs"), folder);
        sources
    }

    /// Parses sources from `(module, text)` instead of files, for the tests of these functions.
    pub fn of(texts: &[(&str, &str)]) -> Self {
        let mut sources = Self::default();
        for (name, text) in texts {
            let module: Module = name.split("::").filter(|part| !part.is_empty()).map(String::from).collect();
            let (file, _) = SourceFile::parse(&module, Path::new(name), text);
            sources.files.insert(module, file);
        }
        sources
    }

    fn add(&mut self, module: Module, path: &Path, children: &Path) {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (file, declared) = SourceFile::parse(&module, path, &text);
        self.files.insert(module.clone(), file);
        for name in declared {
            let (flat, folder) = (children.join(&name).with_extension("rs"), children.join(&name));
            let file = if flat.exists() { flat } else { folder.join("mod.rs") };
            self.add(joined(&module, &name), &file, &folder);
        }
    }

    /// Returns the number of files.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Returns the path of a module's file, for messages.
    pub fn path(&self, module: &Module) -> &Path {
        &self.files[module].path
    }

    /// Returns the modules with `unsafe` blocks, functions or implementations.
    pub fn unsafe_modules(&self) -> impl Iterator<Item = &Module> {
        self.files.iter().filter(|(_, file)| file.has_unsafe).map(|(module, _)| module)
    }

    /// Returns every use of one module by another. Using a re-exported name (`pub use`) counts as using the module that defines it.
    pub fn uses(&self) -> BTreeSet<Use> {
        let mut uses = BTreeSet::new();
        for (module, file) in &self.files {
            for path in &file.paths {
                if let Some(to) = self.definer(path).filter(|to| to != module) {
                    uses.insert(Use { from: module.clone(), to });
                }
            }
        }
        uses
    }

    /// Returns the module that defines the item at a full path.
    fn definer(&self, path: &[String]) -> Option<Module> {
        let mut path = path.to_vec();
        // At most one step per file, so that the search ends even if re-exports are circular.
        for _ in 0..self.files.len() {
            let depth = (0..=path.len()).rev().find(|depth| self.files.contains_key(&path[..*depth]))?;
            let (module, rest) = path.split_at(depth);
            let reexport = rest.first().and_then(|name| self.files[module].names.get(name));
            match reexport {
                Some(full) if full != &path => path = full.iter().chain(&rest[1..]).cloned().collect(),
                _ => return Some(module.to_vec()),
            }
        }
        None
    }
}

impl SourceFile {
    /// Parses a file. Returns it with the names of the modules that it declares.
    fn parse(module: &Module, path: &Path, text: &str) -> (Self, Vec<String>) {
        let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut collector = Collector::default();
        collector.visit_file(&parsed);
        let Collector { uses, paths, declared, has_unsafe, .. } = collector;
        let children: BTreeMap<&String, Module> = declared.iter().map(|name| (name, joined(module, name))).collect();
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, path) in &uses {
            let child = || Some(children.get(&path[0])?.iter().chain(&path[1..]).cloned().collect());
            let full = absolute(module, path).or_else(child);
            names.extend(full.map(|full| (name.clone(), full)));
        }
        let below = |start: Option<&Vec<String>>, path: &[String]| Some(start?.iter().chain(&path[1..]).cloned().collect());
        let full = |path: &Vec<String>| {
            let named = || below(names.get(&path[0]).or_else(|| children.get(&path[0])), path);
            absolute(module, path).or_else(named)
        };
        let paths = paths.iter().filter_map(full).collect();
        (Self { path: path.to_owned(), names, paths, has_unsafe }, declared)
    }
}

fn joined(module: &Module, name: &str) -> Module {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// Returns a path that starts with `crate`, `self` or `super`, from the crate root; `None` for any other path.
fn absolute(module: &Module, path: &[String]) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    match path[0].as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some(module.iter().chain(&path[1..]).cloned().collect()),
        "super" => Some(module[..module.len().checked_sub(ups)?].iter().chain(&path[ups..]).cloned().collect()),
        _ => None,
    }
}

/// Walks the syntax of a file.
#[derive(Default)]
struct Collector {
    /// Imported and re-exported names, each with its path as written.
    uses: Vec<(String, Vec<String>)>,
    paths: Vec<Vec<String>>,
    declared: Vec<String>,
    has_unsafe: bool,
}

impl Collector {
    /// Records every name of a `use` tree below the path `before`.
    fn tree(&mut self, before: &[String], tree: &UseTree, is_reexport: bool) {
        let with = |name: String| before.iter().cloned().chain([name]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.tree(&with(path.ident.to_string()), &path.tree, is_reexport),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(before, item, is_reexport)),
            UseTree::Name(name) if name.ident == "self" => self.named(before[before.len() - 1].clone(), before.to_vec(), is_reexport),
            UseTree::Name(name) => self.named(name.ident.to_string(), with(name.ident.to_string()), is_reexport),
            UseTree::Rename(rename) => self.named(rename.rename.to_string(), with(rename.ident.to_string()), is_reexport),
            UseTree::Glob(_) => self.named("*".to_owned(), before.to_vec(), is_reexport),
        }
    }

    /// Records a name from a `use` item. A re-export alone does not count as a use.
    fn named(&mut self, name: String, path: Vec<String>, is_reexport: bool) {
        if !is_reexport {
            self.paths.push(path.clone());
        }
        self.uses.push((name, path));
    }

    /// Records every path `a::b::c` in the tokens of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Vec::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_path(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                other => {
                    self.end_path(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.end_path(&mut path);
    }

    fn end_path(&mut self, path: &mut Vec<String>) {
        if path.len() > 1 {
            self.paths.push(std::mem::take(path));
        }
        path.clear();
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Const(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Macro(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Trait(item) => &item.attrs,
            Item::Type(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if is_for_tests(attributes) {
            return;
        }
        match item {
            Item::Use(item) => {
                let is_reexport = !matches!(item.vis, syn::Visibility::Inherited);
                self.tree(&[], &item.tree, is_reexport);
            }
            Item::Mod(item) if item.content.is_none() => self.declared.push(item.ident.to_string()),
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            self.has_unsafe |= matches!(item.sig.safety, syn::Safety::Unsafe(_));
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.has_unsafe |= matches!(item.sig.safety, syn::Safety::Unsafe(_));
        visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.has_unsafe |= item.unsafety.is_some();
        visit::visit_item_impl(self, item);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.has_unsafe = true;
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}
