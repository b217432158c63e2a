//! The lines that a person types: questions, and commands that start with a slash.

use super::super::temperature;
use crate::cli::numbers::setting;
use crate::config::nearest;

/// What a line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Answer this question.
    Question(String),
    /// Answer the last question again with the next seed.
    Again,
    /// Print the list of commands.
    Help,
    /// Sample at this temperature.
    Temperature(f32),
    /// Grade the next answers against this one; `None` stops grading.
    Gold(Option<String>),
    /// Sample this many answers to each question.
    Count(usize),
    /// Leave.
    Exit,
}

/// The text of `/help`.
pub const HELP: &str = "\
Type a question, or:
  /again           answer the last question again with the next seed
  /temperature X   sample at temperature X; 0 is greedy decoding
  /n N             sample N answers to each question
  /gold ANSWER     grade the next answers; without an answer, stop grading
  /help            print this list
  /exit            leave, as does Ctrl-D
Ctrl-C cancels an answer. Every question is answered on its own: the model does not see earlier ones.";

const NAMES: [&str; 6] = ["/again", "/temperature", "/n", "/gold", "/help", "/exit"];

impl Command {
    /// Parses a line, without surrounding white space. A question that starts with a slash is written with two.
    ///
    /// # Errors
    /// A message for the person if the command is unknown or its argument is wrong.
    pub fn parse(line: &str) -> Result<Self, String> {
        let Some(command) = line.strip_prefix('/') else { return Ok(Self::Question(line.to_owned())) };
        if command.starts_with('/') {
            return Ok(Self::Question(command.to_owned()));
        }
        let (name, argument) = line.split_once(char::is_whitespace).map_or((line, ""), |(name, argument)| (name, argument.trim()));
        let about = |error: String| format!("{name}: {error}");
        match (name, argument) {
            ("/again", "") => Ok(Self::Again),
            ("/help", "") => Ok(Self::Help),
            ("/exit" | "/quit", "") => Ok(Self::Exit),
            ("/temperature", text) => temperature(text).map(Self::Temperature).map_err(about),
            ("/n", text) => setting("rollout.group_size")(text).map(Self::Count).map_err(about),
            ("/gold", "") => Ok(Self::Gold(None)),
            ("/gold", answer) => Ok(Self::Gold(Some(answer.to_owned()))),
            ("/again" | "/help" | "/exit" | "/quit", _) => Err(format!("{name} takes no argument")),
            _ => {
                let near = nearest(name, NAMES).map_or_else(String::new, |near| format!("did you mean {near}? "));
                Err(format!("unknown command {name}; {near}/help lists the commands, and two slashes start a question with one"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reads_questions_and_commands() {
        let check = |line: &str, expected: Command| assert_eq!(Command::parse(line), Ok(expected), "{line}");
        check("What is 1/2?", Command::Question("What is 1/2?".into()));
        check("//x", Command::Question("/x".into()));
        check("/again", Command::Again);
        check("/temperature 0", Command::Temperature(0.0));
        check("/n  4", Command::Count(4));
        check("/gold \\frac{1}{2} cm", Command::Gold(Some("\\frac{1}{2} cm".into())));
        check("/gold", Command::Gold(None));
        check("/quit", Command::Exit);
        let refused = |line: &str, expected: &str| {
            let error = Command::parse(line).unwrap_err();
            assert!(error.starts_with(expected), "{line}: {error}");
        };
        refused("/temprature 1", "unknown command /temprature; did you mean /temperature?");
        refused("/temperature hot", "/temperature: it must be 0, or a number from 0.001 to 1000");
        refused("/n", "/n: it must be a whole number from 1");
        refused("/help me", "/help takes no argument");
    }

    #[test]
    fn help_lists_every_command() {
        assert!(NAMES.iter().all(|name| HELP.contains(&format!("\n  {name} "))));
    }
}
