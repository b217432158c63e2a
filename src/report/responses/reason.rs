//! The reason for a verdict in one sentence, from the verifier's record of its stages.

use crate::verify::{Extraction, Line, Method, Stage, Trace, Verdict};

/// Returns where the answer was found if it is not in a box, the finding that decided, and its method, such as `The values differ: 1217 and
/// 1218 (decided by exact rational values)`.
pub fn reason(verdict: &Verdict, trace: &Trace) -> String {
    let lines = trace.lines();
    let extraction = lines.iter().rfind(|line| line.stage == Stage::Extract).map_or("no answer", |line| line.text.as_str());
    if verdict.method == Method::NoAnswer && verdict.extracted.is_none() {
        return capitalized(extraction);
    }
    let found = if verdict.extraction == Extraction::Boxed { String::new() } else { format!("{}. ", capitalized(extraction)) };
    let method = verdict.method.describe();
    match deciding(verdict, lines) {
        Some(line) => format!("{found}{} (decided by {method})", capitalized(&line.text)),
        None => format!("{found}Decided by {method}"),
    }
}

/// Returns the line of the stage that decided; `None` if no stage recorded it.
fn deciding<'a>(verdict: &Verdict, lines: &'a [Line]) -> Option<&'a Line> {
    let stage = match verdict.method {
        Method::Text | Method::NoAnswer => Some(Stage::Text),
        Method::Choice => Some(Stage::Choice),
        Method::Exact => Some(Stage::Exact),
        Method::Identity => Some(Stage::Identity),
        Method::Numeric => Some(Stage::Numeric),
        Method::Sampled => Some(Stage::Sampled),
        Method::Rounded => Some(Stage::Rounded),
        Method::Exhausted => Some(Stage::Budget),
        Method::Structure => None,
        Method::Tolerance => return None,
    };
    let expected = if verdict.correct { "equal" } else { "not equal" };
    let of_stage = lines.iter().rfind(|line| Some(line.stage) == stage && !line.text.starts_with("no verdict"));
    of_stage.or_else(|| lines.iter().rfind(|line| line.stage != Stage::Verdict && line.text.starts_with(expected)))
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Grader, Mode, Settings, Verifier};

    #[test]
    fn reason_names_the_method_and_the_finding() {
        let check = |gold: &str, response: &str, expected: &str| {
            let verifier = Verifier::new(Settings { mode: Mode::Eval, grader: Grader::Strict, after_think: false });
            let (verdict, trace) = verifier.explain(gold, response);
            assert_eq!(reason(&verdict, &trace), expected, "{trace}");
        };
        check("1217", r"\boxed{1217}", "Equal: both are `1217` when normalized (decided by the text)");
        check("1217", r"\boxed{1218}", "The values differ: 1217 and 1218 (decided by exact rational values)");
        check("(2,3)", r"\boxed{(2,3,4)}", "Not equal: different numbers of members (decided by the structure of the answers)");
        check(
            "78",
            "So the answer is 78.",
            "No box; from the stated answer: `78`. Equal: both are `78` when normalized (decided by the text)",
        );
        check("78", "I do not know", "No answer: no box, no stated answer and no number");
        check("78", "", "No answer: no box, no stated answer and no number");
        check("78", r"\boxed{}", "Not equal: the answer is empty (decided by a missing answer)");
    }
}
