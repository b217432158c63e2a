//! `rlvr completions`: prints a shell's completion script. `rlvr man`: writes the manual pages. Both are generated from the definition of
//! the command line.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;
use crate::checkpoint::write_file;

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell to complete commands in
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder to write one page per command to (default: print the page of rlvr itself)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(args: CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "rlvr", &mut script);
    print_result!("{}", String::from_utf8(script)?.trim_end());
    Ok(())
}

pub fn man(args: ManArgs) -> Result<()> {
    let mut command = Cli::command();
    // Passes global options and the version on to the commands.
    command.build();
    let pages = pages(&command, "rlvr")?;
    let Some(folder) = args.out else {
        pages.first().iter().for_each(|(_, page)| print_result!("{}", page.trim_end()));
        return Ok(());
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, page) in &pages {
        write_file(&folder.join(format!("{name}.1")), page.as_bytes())?;
    }
    message!("wrote {} manual pages to {}; read one with man {}", pages.len(), folder.display(), folder.join("rlvr-train.1").display());
    Ok(())
}

/// Returns the name and the text of a command's page, then those of its subcommands.
fn pages(command: &Command, name: &str) -> Result<Vec<(String, String)>> {
    let mut found = vec![(name.to_owned(), page(command, name)?)];
    for subcommand in command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help") {
        found.extend(pages(subcommand, &format!("{name}-{}", subcommand.get_name()))?);
    }
    Ok(found)
}

/// Returns a command's page. The examples keep their lines, which a paragraph of a manual page would join.
fn page(command: &Command, name: &str) -> Result<String> {
    let examples = command.get_after_help().map(ToString::to_string);
    let man = Man::new(command.clone().display_name(name.to_owned()).after_help(""));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut page = String::from_utf8(page)?;
    if let Some(text) = examples.as_deref().and_then(|text| text.strip_prefix("Examples:\n")) {
        let (examples, see) = text.rsplit_once("\n\n").unwrap_or((text, ""));
        page += &format!(".SH EXAMPLES\n.nf\n{}\n.fi\n.PP\n{}\n", roff(examples), roff(see));
    }
    Ok(page)
}

/// Escapes text for roff: backslashes and hyphens, and lines that would be requests.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    escaped
        .lines()
        .map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() })
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roff_escapes_requests_and_backslashes() {
        assert_eq!(roff("a \\frac\n.nf\n'x --b"), "a \\efrac\n\\&.nf\n\\&'x \\-\\-b");
    }

    #[test]
    fn man_has_a_page_with_examples_for_every_command() {
        let mut command = Cli::command();
        command.build();
        let pages = pages(&command, "rlvr").unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert!(["rlvr", "rlvr-train", "rlvr-data-check"].iter().all(|name| names.contains(name)), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("with-parent") || name.ends_with("-help")), "{names:?}");
        let without = pages.iter().filter(|(name, page)| !name.starts_with("rlvr-data-") && !page.contains(".SH EXAMPLES\n"));
        assert_eq!(without.map(|(name, _)| name.as_str()).collect::<Vec<_>>(), Vec::<&str>::new());
    }
}
