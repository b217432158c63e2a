//! A gold answer with additional data from its data set: unit, tolerance and alternative answers. Defines how these are used; the grader
//! defines equality.

use super::fuel::Fuel;
use super::read;
use super::read::lex::Commas;
use super::text::{clean, strip_delimiters};
use super::trace::{Stage, Trace, digits, quoted};
use super::tree::{Node, Relation, Tree};
use super::value;
use super::{Grader, Method, Settings, Verdict, verify_traced};
use crate::flow::Problem;

/// A gold answer as given by a data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GoldAnswer<'a> {
    /// The answer itself, as LaTeX or plain text.
    pub answer: &'a str,
    /// Its unit, as LaTeX to append to the answer, such as `\text{ cm}^2`. Empty if the data set gives none.
    pub unit: &'a str,
    /// Maximum absolute difference from the answer; `None` for exact comparison. A percent sign on either side is ignored.
    pub tolerance: Option<f64>,
}

/// Extracts the answer of `response` and compares it with the gold answer, including its unit and tolerance. The published graders ignore
/// both and compare with the bare answer.
///
/// ```
/// # use rlvr::verify::{GoldAnswer, Settings, verify_gold_answer};
/// let gold = GoldAnswer { answer: "45", unit: r"\text{ minutes}", tolerance: None };
/// let is_right = |response| verify_gold_answer(&gold, response, &Settings::default()).correct;
/// assert!(is_right(r"\boxed{45}") && is_right(r"\boxed{0.75\text{ hours}}"));
/// assert!(!is_right(r"\boxed{45\text{ hours}}"));
/// ```
pub fn verify_gold_answer(gold: &GoldAnswer, response: &str, settings: &Settings) -> Verdict {
    verify_gold_traced(gold, response, settings, &mut Trace::off())
}

/// Like [`verify_gold_answer`], with the gold answer, unit, tolerance and alternative answers of a problem. Returns the first verdict that
/// is correct, or else the verdict on the main answer.
pub fn verify_problem(problem: &Problem, response: &str, settings: &Settings) -> Verdict {
    any_gold(problem, response, settings, Trace::off).0
}

/// Like [`verify_problem`], but also returns a record of the stages tried for that verdict.
pub fn explain_problem(problem: &Problem, response: &str, settings: &Settings) -> (Verdict, Trace) {
    any_gold(problem, response, settings, Trace::on)
}

fn any_gold(problem: &Problem, response: &str, settings: &Settings, trace: fn() -> Trace) -> (Verdict, Trace) {
    let alternatives = problem.alternatives.len();
    let graded = |answer: &str, number: usize| {
        let mut trace = trace();
        match number {
            0 if alternatives > 0 => {
                trace.note(Stage::Gold, || format!("the first of {} gold answers, {}", alternatives + 1, quoted(answer)))
            }
            0 => {}
            _ => trace.note(Stage::Gold, || format!("alternative {number} of {alternatives}, {}", quoted(answer))),
        }
        let gold = GoldAnswer { answer, unit: &problem.unit, tolerance: problem.tolerance };
        (verify_gold_traced(&gold, response, settings, &mut trace), trace)
    };
    let main = graded(&problem.answer, 0);
    if main.0.correct {
        return main;
    }
    let mut others = problem.alternatives.iter().zip(1..).map(|(answer, number)| graded(answer, number));
    others.find(|(verdict, _)| verdict.correct).unwrap_or(main)
}

fn verify_gold_traced(gold: &GoldAnswer, response: &str, settings: &Settings, trace: &mut Trace) -> Verdict {
    if settings.grader != Grader::Strict {
        return verify_traced(gold.answer, response, settings, trace);
    }
    let with_unit = format!("{}{}", strip_delimiters(gold.answer), gold.unit);
    if !gold.unit.is_empty() {
        trace.note(Stage::Gold, || format!("{} with the data set's unit {}", quoted(gold.answer), quoted(gold.unit)));
    }
    let mut verdict = verify_traced(if gold.unit.is_empty() { gold.answer } else { &with_unit }, response, settings, trace);
    if let (false, Some(answer), Some(tolerance)) = (verdict.correct, &verdict.extracted, gold.tolerance) {
        (verdict.correct, verdict.method) = match within(gold.answer, answer, tolerance) {
            true => (true, Method::Tolerance),
            false => (false, verdict.method),
        };
        trace.note(Stage::Tolerance, || {
            let found = if verdict.correct { "equal: at most" } else { "not equal: not two numbers at most" };
            format!("{found} {} apart, the data set's tolerance", digits(tolerance))
        });
        let found = if verdict.correct { "equal" } else { "not equal" };
        trace.note(Stage::Verdict, || format!("{found}, decided by {}", verdict.method.describe()));
    }
    verdict
}

/// True if both are real numbers at most `tolerance` apart. `4.2\%` and `r = 4.2` are read as 4.2.
fn within(gold: &str, answer: &str, tolerance: f64) -> bool {
    let mut fuel = Fuel::new(Fuel::COMPARISON);
    let mut number = |text: &str| {
        let mut tree = Tree::default();
        let mut id = read::read(&clean(text), Commas::Group, &mut tree, &mut fuel)?;
        if let Node::Chain(list) = tree.node(id)
            && let (&[Relation::Equal], &[name, value]) = (tree.relations_of(list), tree.members(list))
            && matches!(tree.node(name), Node::Symbol(_))
        {
            id = value;
        }
        if let Node::Percent(inner) = tree.node(id) {
            id = inner;
        }
        value::magnitude(&tree, id, &mut fuel).filter(|value| value.is_finite())
    };
    // A difference of exactly `tolerance` is accepted, so allow for rounding in it.
    number(gold).zip(number(answer)).is_some_and(|(gold, answer)| (gold - answer).abs() <= tolerance * (1.0 + 1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Mode;

    #[test]
    fn verify_problem_accepts_any_alternative() {
        let problem = Problem { answer: "70".into(), alternatives: vec!["72".into(), "x+1".into()], ..Problem::default() };
        for mode in [Mode::Reward, Mode::Eval] {
            let settings = Settings { mode, ..Settings::default() };
            for (response, expected) in
                [(r"\boxed{70}", true), (r"\boxed{72}", true), (r"\boxed{1+x}", true), (r"\boxed{71}", false), ("", false)]
            {
                assert_eq!(verify_problem(&problem, response, &settings).correct, expected, "{response}");
                let (verdict, trace) = explain_problem(&problem, response, &settings);
                let equal = trace.lines().last().is_some_and(|line| line.text.starts_with("equal, "));
                assert_eq!((verdict.correct, equal), (expected, expected), "{response}: {trace}");
            }
        }
    }

    #[test]
    fn explain_problem_notes_units_tolerances_and_alternatives() {
        let check = |problem: &Problem, response: &str, expected: &[&str], reason: &str| {
            let settings = Settings::default();
            let (verdict, trace) = explain_problem(problem, response, &settings);
            assert_eq!(verdict, verify_problem(problem, response, &settings), "{response}");
            let text = trace.to_string();
            expected.iter().for_each(|expected| assert!(text.contains(expected), "{expected:?} in {text}"));
            assert_eq!(trace.reason(verdict.method), reason, "{text}");
            assert_eq!(trace.lines().last().map(|line| line.stage), Some(Stage::Verdict), "{text}");
        };
        let share = Problem { answer: "4.2".into(), tolerance: Some(0.1), ..Problem::default() };
        let within = "equal: at most 0.1 apart, the data set's tolerance";
        check(&share, r"\boxed{4.24}", &["verdict   equal, decided by the data set's tolerance"], within);
        let beyond = "tolerance not equal: not two numbers at most 0.1 apart";
        check(&share, r"\boxed{4.4}", &[beyond], "the values differ: 21/5 and 22/5");
        let time = Problem { answer: "8".into(), unit: r"\text{ minutes}".into(), ..Problem::default() };
        check(&time, r"\boxed{480\text{ s}}", &[r"gold      `8` with the data set's unit `\text{ minutes}`"], "equal: both are 8");
        let either = Problem { answer: "70".into(), alternatives: vec!["71".into(), "72".into()], ..Problem::default() };
        check(&either, r"\boxed{72}", &["gold      alternative 2 of 2, `72`"], "equal: both are `72` when normalized");
        check(&either, r"\boxed{5}", &["gold      the first of 3 gold answers, `70`"], "the values differ: 70 and 5");
    }

    fn check(gold: GoldAnswer, answer: &str, expected: bool) {
        let response = format!("\\boxed{{{answer}}}");
        for mode in [Mode::Reward, Mode::Eval] {
            let verdict = verify_gold_answer(&gold, &response, &Settings { mode, ..Settings::default() });
            assert_eq!(verdict.correct, expected, "{gold:?}: {answer}");
        }
    }

    #[test]
    fn verify_gold_answer_compares_units_if_the_answer_has_one() {
        let area = GoldAnswer { answer: "$166$", unit: r"\text{ cm}^2", tolerance: None };
        let speed = GoldAnswer { answer: r"$\frac{600}{7}$", unit: r"\text{ km/h}", tolerance: None };
        let time = GoldAnswer { answer: "8", unit: r"\text{ minutes}", tolerance: None };
        for (gold, answer, expected) in [
            (area, "166", true),
            (area, "$166$", true),
            (area, r"166\text{ cm}^2", true),
            (area, r"166 \mathrm{~cm}^{2}", true),
            (area, r"166\text{ m}^2", false),
            (area, r"166\text{ cm}", false),
            (area, r"1.66\text{ m}^2", false),
            (speed, r"\frac{600}{7}", true),
            (speed, r"\frac{10}{7}\text{ km/min}", true),
            (speed, r"\frac{600}{7}\text{ m/h}", false),
            (time, r"8\text{ min}", true),
            (time, r"480\text{ seconds}", true),
            (time, "480", false),
            (time, r"8\text{ hours}", false),
        ] {
            check(gold, answer, expected);
        }
    }

    #[test]
    fn verify_gold_answer_accepts_answers_within_tolerance() {
        let share = GoldAnswer { answer: "4.2", unit: "", tolerance: Some(0.1) };
        for (answer, expected) in [
            ("4.2", true),
            ("4.24", true),
            (r"4.24\%", true),
            ("r = 4.24", true),
            (r"\frac{21}{5}", true),
            ("4.1", true),
            ("4.3", true),
            ("4.31", false),
            ("0.042", false),
            ("0.1", false),
            ("4.2, 4.24", false),
            ("x", false),
            (r"\infty", false),
            ("", false),
        ] {
            check(share, answer, expected);
        }
    }

    #[test]
    fn verify_gold_answer_ignores_units_with_published_graders() {
        let gold = GoldAnswer { answer: "45", unit: r"\text{ minutes}", tolerance: Some(5.0) };
        for grader in [Grader::Deepscaler, Grader::Qwen] {
            let settings = Settings { grader, ..Settings::default() };
            assert!(verify_gold_answer(&gold, r"\boxed{45}", &settings).correct);
            assert!(!verify_gold_answer(&gold, r"\boxed{46}", &settings).correct);
        }
    }
}
