//! Outcome minus the squared error of the stated confidence (RLCR, arXiv 2507.16806): `correct - (confidence - correct)^2`. Stating the
//! true probability maximizes the expected reward. A correct answer earns 1 with confidence 1 and 0 with confidence 0; a wrong one earns -1
//! and 0.

use super::Graded;

const OPEN: &str = "<confidence>";
const CLOSE: &str = "</confidence>";

/// Computes the reward. A confidence that is missing or not a number from 0 to 1 counts as the worst one, with a squared error of 1.
pub(super) fn reward(graded: &Graded) -> f32 {
    let outcome = f32::from(graded.verdict.correct);
    let error = confidence(&graded.rollout.text).map_or(1.0, |confidence| confidence - outcome);
    outcome - error * error
}

/// Returns the last confidence after any thought, from 0 to 1: a number, `<confidence>0.8</confidence>`, or a percentage, `80%`.
fn confidence(response: &str) -> Option<f32> {
    let answer = response.rsplit("</think>").next()?;
    let before_close = &answer[..answer.rfind(CLOSE)?];
    let stated = before_close[before_close.rfind(OPEN)? + OPEN.len()..].trim();
    let number = match stated.strip_suffix('%') {
        Some(percent) => percent.trim_end_matches('\\').trim_end().parse::<f32>().ok()? / 100.0,
        None => stated.parse().ok()?,
    };
    (0.0..=1.0).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    #[test]
    fn brier_reward_by_hand() {
        let responses = [
            r"\boxed{7} <confidence>1</confidence>",
            r"\boxed{7} <confidence>0.5</confidence>",
            r"\boxed{7} <confidence>0</confidence>",
            r"\boxed{8} <confidence>0</confidence>",
            r"\boxed{8} <confidence>80%</confidence>",
            r"\boxed{8} <confidence>1</confidence>",
            r"\boxed{7}",
            r"\boxed{8}",
        ];
        check("brier", "7", &responses, &[1.0, 0.75, 0.0, 0.0, -0.64, -1.0, 0.0, -1.0]);
    }

    #[test]
    fn confidence_accepts_only_numbers_from_0_to_1() {
        let check = |response: &str, expected: Option<f32>| assert_eq!(confidence(response), expected, "{response}");
        check("<confidence> 0.25 </confidence>", Some(0.25));
        check(r"<confidence>25 \%</confidence>", Some(0.25));
        check("<confidence>0.1</confidence> or <confidence>0.9</confidence>", Some(0.9));
        check("<confidence>0.1</confidence></think> so", None);
        check("<confidence>0.1</confidence></think> <confidence>1</confidence>", Some(1.0));
        for none in ["0.9", "<confidence>1.5</confidence>", "<confidence>-1</confidence>", "<confidence>high</confidence>", "<confidence>"]
        {
            check(none, None);
        }
        check("<confidence>NaN</confidence>", None);
        check("</confidence>0.5<confidence>", None);
    }
}
