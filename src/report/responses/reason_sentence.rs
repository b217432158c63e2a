//! The reason for a verdict as a sentence for the readers of a page.

use crate::verify::{Extraction, Method, Stage, Trace, Verdict};

/// Returns the finding that decided ([`Trace::reason`]) as a sentence without its period, with the method, and with the place of the answer
/// if that is not in a box. An example is `The values differ: 1217 and 1218 (decided by exact rational values)`.
pub fn reason_sentence(verdict: &Verdict, trace: &Trace) -> String {
    let finding = capitalized(trace.reason(verdict.method));
    if verdict.method == Method::NoAnswer && verdict.extracted.is_none() {
        return finding;
    }
    let place = trace.lines().iter().rfind(|line| line.stage == Stage::Extract).map_or("", |line| line.text.as_str());
    let place = if verdict.extraction == Extraction::Boxed { String::new() } else { format!("{}. ", capitalized(place)) };
    match verdict.method.describe() {
        method if finding.ends_with(method) => format!("{place}{finding}"),
        method => format!("{place}{finding} (decided by {method})"),
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Problem;
    use crate::verify::{Grader, Mode, Settings, Verifier, explain_problem};

    #[test]
    fn reason_sentence_names_the_method_and_the_finding() {
        let check = |gold: &str, response: &str, expected: &str| {
            let verifier = Verifier::new(Settings { mode: Mode::Eval, grader: Grader::Strict, after_think: false });
            let (verdict, trace) = verifier.explain(gold, response);
            assert_eq!(reason_sentence(&verdict, &trace), expected, "{trace}");
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

    #[test]
    fn reason_sentence_names_a_tolerance_once() {
        let problem = Problem { answer: "4.2".into(), tolerance: Some(0.1), ..Problem::default() };
        let (verdict, trace) = explain_problem(&problem, r"\boxed{4.24}", &Settings::default());
        assert_eq!(reason_sentence(&verdict, &trace), "Equal: at most 0.1 apart, the data set's tolerance");
    }
}
