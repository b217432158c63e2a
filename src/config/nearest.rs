//! Finds the known name that is closest to a misspelled one.

/// Returns the known name with the smallest edit distance to `name`, ignoring case. `None` if that distance exceeds one edit plus one for
/// every four characters of `name`.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (name, max_edits) = (name.to_lowercase(), 1 + name.chars().count() / 4);
    let distances = known.into_iter().map(|one| (strsim::osa_distance(&name, &one.to_lowercase()), one));
    distances.filter(|(distance, _)| *distance <= max_edits).min_by_key(|(distance, _)| *distance).map(|(_, one)| one)
}

/// Returns the known settings closest to the unknown setting `name`; all names are full names.
///
/// Candidates have the same last part, or else a last part that extends it, such as `max_new_tokens` for `max_new`. Returns the nearest
/// candidate if it is similar to `name`, otherwise all candidates. Without candidates, returns the nearest setting in the same group, or
/// else in any group; empty if none is similar.
pub(super) fn nearest_settings(name: &str, known: &[String]) -> Vec<String> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let matching = |is_match: &dyn Fn(&str) -> bool| known.iter().filter(|one| is_match(&last(one))).cloned().collect::<Vec<String>>();
    let mut same_last = matching(&|one| one == last(name));
    if same_last.is_empty() {
        same_last = matching(&|one| one.strip_prefix(&last(name)).is_some_and(|rest| rest.starts_with('_')));
    }
    if !same_last.is_empty() {
        let near = nearest(name, same_last.iter().map(String::as_str)).map(str::to_owned);
        return near.map_or(same_last, |near| vec![near]);
    }
    // First assume that the group is right and only the last part is wrong.
    let group = name.rsplit_once('.').map_or("", |(group, _)| group);
    let siblings = known.iter().filter(|one| one.rsplit_once('.').map_or("", |(group, _)| group) == group);
    let own = nearest(&last(name), siblings.clone().map(|one| one.rsplit('.').next().unwrap_or_default()));
    let found = own.and_then(|own| siblings.clone().find(|one| last(one) == own).cloned());
    found.or_else(|| nearest(name, known.iter().map(String::as_str)).map(str::to_owned)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_similar_names_only() {
        let known = ["grpo", "ppo", "dr_grpo", "gspo"];
        let check = |name: &str, expected: Option<&str>| assert_eq!(nearest(name, known), expected, "{name}");
        check("gpro", Some("grpo"));
        check("GRPO", Some("grpo"));
        check("dr-grpo", Some("dr_grpo"));
        check("reinforce", None);
        check("", None);
    }

    #[test]
    fn nearest_settings_matches_last_parts_too() {
        let known = ["seed", "optim.lr", "optim.eps", "rollout.max_new_tokens", "eval.max_new_tokens", "rollout.groups"].map(String::from);
        let check = |name: &str, expected: &[&str]| assert_eq!(nearest_settings(name, &known), expected, "{name}");
        check("lr", &["optim.lr"]);
        check("max_new_tokens", &["rollout.max_new_tokens", "eval.max_new_tokens"]);
        check("optim.ler", &["optim.lr"]);
        check("rolout.groups", &["rollout.groups"]);
        check("rollout.gruops", &["rollout.groups"]);
        check("sede", &["seed"]);
        check("optim.something_else", &[]);
    }
}
