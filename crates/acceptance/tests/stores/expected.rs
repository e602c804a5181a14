//! What is expected of every store, one file a scenario.

use crate::parameters;

/// Holds what was told against `expected/<scenario>.snap`, or, where that store can't but differ,
/// against `expected/<store>/<scenario>.snap`.
pub(crate) fn hold(store: &str, scenario: &str, told: &str) {
    let own = format!("expected/{store}");
    let here = format!("{}/tests/stores/{own}/{scenario}.snap", env!("CARGO_MANIFEST_DIR"));
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let folder = if std::path::Path::new(&here).exists() { &own } else { "expected" };
    settings.set_snapshot_path(folder);
    settings.bind(|| insta::assert_snapshot!(scenario, told));
}

/// Holds the events told at each step against `expected/<scenario>.snap`: their names and places, in
/// any order and without those that are a store's own; and what parameters they carry, but for what
/// [`parameters`] explains.
///
/// `differences` are those that a store can't but make: at which step, and what is told less or
/// more.
pub(crate) fn agree(scenario: &str, told: &str, differences: &[(&str, Difference)]) {
    let shared = format!("{}/tests/stores/expected/{scenario}.snap", env!("CARGO_MANIFEST_DIR"));
    let shared = std::fs::read_to_string(&shared).unwrap();
    let mut wanted = steps(&shared);
    for (of, difference) in differences {
        let Some((_, events)) = wanted.iter_mut().find(|(step, _)| step == of) else { continue };
        match difference {
            Difference::Without(name) => {
                let before = events.len();
                events.retain(|event| event.split(' ').next() != Some(*name));
                assert!(events.len() < before, "{of}: {name} is told by none");
            }
            Difference::With(event) => events.push((*event).to_owned()),
        }
        events.sort();
    }
    assert_eq!(steps(told), wanted, "what is told of {scenario} at each step");
    parameters::agree(scenario, &shared, told);
}

/// What one store tells otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Difference {
    /// Events of this name are not told.
    Without(&'static str),
    /// This is told as well.
    With(&'static str),
}

/// Each step with the events told of it.
fn steps(text: &str) -> Vec<(&str, Vec<String>)> {
    let mut steps: Vec<(&str, Vec<String>)> = Vec::new();
    for line in text.lines() {
        if let Some(step) = line.strip_prefix("> ") {
            steps.push((step, Vec::new()));
        } else if let Some((_, events)) = steps.last_mut()
            && !line.starts_with("vnd.")
            && !line.starts_with(' ')
        {
            // Not every store knows the UIDVALIDITY of what is gone.
            events.push(line.replace(";V", ""));
            events.sort();
            // A set may be told in parts; how many is in the store's own file.
            events.dedup();
        }
    }
    steps
}
