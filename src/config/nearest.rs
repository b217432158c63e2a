//! The known name that somebody meant.

/// The nearest known name, where one is near: at most one slip, and one more for every four letters.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (name, slips) = (name.to_lowercase(), 1 + name.chars().count() / 4);
    let distances = known.into_iter().map(|one| (strsim::osa_distance(&name, &one.to_lowercase()), one));
    distances.filter(|(distance, _)| *distance <= slips).min_by_key(|(distance, _)| *distance).map(|(_, one)| one)
}

/// The settings that somebody meant by a name that is none, of all by their full names: those with the same last part, or else the nearest.
pub(super) fn nearest_settings(name: &str, known: &[String]) -> Vec<String> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let namesakes: Vec<String> = known.iter().filter(|one| last(one) == last(name)).cloned().collect();
    if !namesakes.is_empty() {
        let near = nearest(name, namesakes.iter().map(String::as_str)).map(str::to_owned);
        return near.map_or(namesakes, |near| vec![near]);
    }
    // In the same group, only the last part may be wrong.
    let group = name.rsplit_once('.').map_or("", |(group, _)| group);
    let beside = known.iter().filter(|one| one.rsplit_once('.').map_or("", |(group, _)| group) == group);
    let own = nearest(&last(name), beside.clone().map(|one| one.rsplit('.').next().unwrap_or_default()));
    let found = own.and_then(|own| beside.clone().find(|one| last(one) == own).cloned());
    found.or_else(|| nearest(name, known.iter().map(String::as_str)).map(str::to_owned)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["grpo", "ppo", "dr_grpo", "gspo"];
        let check = |name: &str, expected: Option<&str>| assert_eq!(nearest(name, known), expected, "{name}");
        check("gpro", Some("grpo"));
        check("GRPO", Some("grpo"));
        check("dr-grpo", Some("dr_grpo"));
        check("reinforce", None);
        check("", None);
    }

    #[test]
    fn settings_are_found_by_their_last_part_too() {
        let known = ["seed", "optim.lr", "optim.eps", "rollout.max_new", "eval.max_new", "rollout.groups"].map(String::from);
        let check = |name: &str, expected: &[&str]| assert_eq!(nearest_settings(name, &known), expected, "{name}");
        check("lr", &["optim.lr"]);
        check("max_new", &["rollout.max_new", "eval.max_new"]);
        check("optim.ler", &["optim.lr"]);
        check("rolout.groups", &["rollout.groups"]);
        check("rollout.gruops", &["rollout.groups"]);
        check("sede", &["seed"]);
        check("optim.kernels_of_wisdom", &[]);
    }
}
