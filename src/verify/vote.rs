//! Majority votes over several answers to one problem.

/// Returns the index of the first response with the most frequent answer, or `None` if no response has an answer.
///
/// Responses without an answer do not vote. `same` decides whether two answers are equal ("0.5" and "1/2" are). Each answer is compared
/// with the first of each group of equal answers before it, so `same` need not be transitive. In a tie the answer that came first wins.
pub fn majority_vote<A>(answers: &[Option<A>], same: impl Fn(&A, &A) -> bool) -> Option<usize> {
    let mut groups: Vec<(usize, &A, usize)> = Vec::new();
    for (index, answer) in answers.iter().enumerate() {
        let Some(answer) = answer else { continue };
        match groups.iter_mut().find(|(_, first, _)| same(first, answer)) {
            Some((_, _, votes)) => *votes += 1,
            None => groups.push((index, answer, 1)),
        }
    }
    let most = groups.iter().map(|(_, _, votes)| *votes).max()?;
    groups.iter().find(|(_, _, votes)| *votes == most).map(|(index, _, _)| *index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majority_vote_counts_answers() {
        let check = |answers: &[Option<&str>], expected| {
            assert_eq!(majority_vote(answers, |a, b| a == b), expected);
        };
        check(&[Some("3"), Some("4"), Some("4")], Some(1));
        check(&[None, None, None, Some("7")], Some(3));
        check(&[Some("3"), Some("4")], Some(0)); // a tie: the first
        check(&[Some("a"), Some("b"), Some("b"), Some("a")], Some(0));
        check(&[None], None);
        check(&[], None);
        let equal_values = |a: &&str, b: &&str| a.trim_end_matches(".0") == b.trim_end_matches(".0");
        assert_eq!(majority_vote(&[Some("5"), Some("4.0"), Some("4")], equal_values), Some(1));
    }
}
