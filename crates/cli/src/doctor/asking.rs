//! Whether a store answers what it is asked over IMAP.

use postbell_hub::SourceConfig;
use serde_json::Value;

use super::Report;

/// What the hub says of it, where anybody is to ask.
pub(super) fn judge(
    name: &str,
    source: &Value,
    configured: &SourceConfig,
    remedy: &str,
    report: &mut Report,
) {
    if configured.master_user.is_empty() {
        return;
    }
    let address = configured.master_address;
    let check = format!("asking of {name}");
    match source.get("askingError").and_then(Value::as_str) {
        Some(error) => report.notice(&check, error, remedy),
        None => report.right(&check, format!("{address}: no question was refused last")),
    }
    if let Some(error) = source.get("urlAuthError").and_then(Value::as_str) {
        let detail = format!("{error}: links of the hub go in the place of URLs by the store");
        report.notice(&format!("URLAUTH of {name}"), detail, URL_AUTH_REMEDY);
    }
}

const URL_AUTH_REMEDY: &str = "see whether the store's CAPABILITY says URLAUTH: Dovecot offers it where imap_urlauth_host is set, Cyrus unless suppress_capabilities names it; see whether store.host is the name it knows itself by; or set policy.content_reference = \"link\" (docs/content.md)";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::told;
    use super::*;

    #[test]
    fn a_refused_master_user_is_named() {
        let asked = SourceConfig { master_user: "postbell".to_owned(), ..SourceConfig::default() };
        let mut text = String::new();
        for (case, source, configured) in [
            (
                "refused",
                json!({
                    "askingError": "127.0.0.1:143: refused: NO [AUTHENTICATIONFAILED]",
                    "lastError": "/spool: no room",
                }),
                &asked,
            ),
            (
                "answered since",
                json!({"lastError": "127.0.0.1:143: refused: NO [AUTHENTICATIONFAILED]"}),
                &asked,
            ),
            ("no URLs", json!({"urlAuthError": "it doesn't offer URLAUTH"}), &asked),
            ("right", json!({}), &asked),
            ("nobody asks", json!({}), &SourceConfig::default()),
        ] {
            told(|report| judge("mail", &source, configured, "do", report), case, &mut text);
        }
        insta::assert_snapshot!(text);
    }
}
