//! What is expected of every store, one file a scenario.

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
