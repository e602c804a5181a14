//! Pages of the documentation that are made from the code. Not part of the published package.

use mail_event::binding;

#[test]
fn r20_the_page_says_what_the_table_says() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/binding.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(page, binding::markdown()).unwrap();
    }
    let told = std::fs::read_to_string(page).unwrap_or_default();
    assert!(told == binding::markdown(), "run UPDATE_DOCS=1 cargo test -p mail-event --test pages");
}
