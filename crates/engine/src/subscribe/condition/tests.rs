use proptest::prelude::*;

use crate::{Ceiling, Keys, Policy, Role, Selection, Verdict};

const NEW: &str = r#"{"event":"MessageNew","uri":"imap://a@h/INBOX;UIDVALIDITY=7/;UID=5","timestamp":"2026-08-20T13:34:14+02:00","user":"a","flagNames":["\\Flagged","$Junk"],"messageContent":"Subject: x\r\n\r\n","messageSize":14000,"service":"lmtp","vnd.example.list":{"id":"x","n":[1,2.5]},"vnd.example.score":7,"vnd.example.my-score":-3}"#;

fn selection(condition: &str) -> Selection {
    Selection { condition: Some(condition.to_owned()), ..Selection::default() }
}

fn judge_with(condition: &str, policy: &Policy, json: &str) -> Verdict {
    let (filter, _) = selection(condition).compile(policy).unwrap();
    filter.judge(&Keys::find(json.as_bytes()).unwrap().view(json.as_bytes()), json.as_bytes())
}

fn judge(condition: &str) -> Verdict {
    judge_with(condition, &Policy::default(), NEW)
}

fn refused(condition: &str) -> String {
    let error = selection(condition).compile(&Policy::default()).unwrap_err();
    assert_eq!(error.pointer, "/where", "{error}");
    error.message
}

#[test]
fn an_event_is_wanted_where_its_condition_is_true() {
    for wanted in [
        "messageSize > 10000",
        r#"event == "MessageNew" && service in ["lmtp", "imap"]"#,
        r#""\\Flagged" in flagNames && !("$Forwarded" in flagNames)"#,
        r#"uri.startsWith("imap://a@h/") && user.size() == 1"#,
        "vnd.example.score >= 7",
        r#"vnd["example.my-score"] + 3 == 0"#,
        r#"vnd.example.list.id == "x" && vnd.example.list.n[1] > 2.0"#,
        "has(messageSize) && !has(modseq)",
        r#"has(vnd.example.score) && has(vnd["example.my-score"]) && !has(vnd.example.other)"#,
        "has(modseq) ? modseq > 5 : true",
        "modseq > 5 || messageSize > 5",
        "true",
    ] {
        assert_eq!(judge(wanted), Verdict::Wanted, "{wanted}");
        let not = format!("!({wanted})");
        assert_eq!(judge(&not), Verdict::Unwanted, "{not}");
    }
}

#[test]
fn a_condition_goes_with_the_other_kinds() {
    let with = |events: &str| Selection {
        events: vec![events.to_owned()],
        condition: Some("messageSize > 10000".to_owned()),
        ..Selection::default()
    };
    let view = Keys::find(NEW.as_bytes()).unwrap().view(NEW.as_bytes());
    for (events, verdict) in [("message", Verdict::Wanted), ("flags", Verdict::Unwanted)] {
        let (filter, _) = with(events).compile(&Policy::default()).unwrap();
        assert_eq!(filter.judge(&view, NEW.as_bytes()), verdict);
    }
}

#[test]
fn what_can_not_be_said_of_an_event_says_why_without_its_values() {
    for (condition, why) in [
        ("modseq > 5", "there is no modseq"),
        ("vnd.example.other == 1", "there is no vnd"),
        ("vnd.example.list.other == 1", "a key is not there"),
        ("flagNames[7] == \"x\"", "a list is too short"),
        ("messageSize / 0 == 1", "it divides by zero"),
        ("messageSize + 9223372036854775807 > 0", "a number gets too large"),
        ("user > 5", "_>_ can't be done with string and int"),
        ("user + 5 == \"\"", "it compares or adds what is not alike"),
        ("vnd.example.score", "it comes to something that is neither true nor false"),
    ] {
        assert_eq!(judge(condition), Verdict::Unclear(why.to_owned()), "{condition}");
    }
}

#[test]
fn a_gap_is_told_whatever_the_condition() {
    let gap =
        r#"{"event":"vnd.postbell.Gap","uri":"imap://h/","timestamp":"2026-08-20T13:34:14+02:00"}"#;
    assert_eq!(judge_with("false", &Policy::default(), gap), Verdict::Wanted);
}

#[test]
fn what_is_not_taken_of_the_language_is_refused_with_the_reason() {
    let long = "true && ".repeat(140);
    let deep = format!("{}true{}", "(".repeat(200), ")".repeat(200));
    let wide = format!("{}true", "1<2||".repeat(60));
    let sums = format!("user{} == user", "+user".repeat(9));
    let conditions = [
        "",
        "messagesize > 5",
        "messageSize >",
        "flagNames.exists(f, f == \"x\")",
        "user.matches(\"(a+)+\")",
        "now() > 5",
        "{\"a\": 1} == user",
        "has(5)",
        "has(messageSize, user)",
        "has(size)",
        "1 + 1",
        "messageSize",
        "\"yes\"",
        "vnd == 1",
        "`user` == 1",
        "messageContent.contains(\"x\")",
        "has(envelope)",
        "vnd.cmu.envelope == \"x\"",
        "vnd.cmu.envelope.from == \"x\"",
        "vnd[\"cmu.envelope\"] == \"x\"",
        &long,
        &deep,
        &wide,
        &sums,
    ];
    let told: Vec<_> = conditions
        .iter()
        .map(|condition| {
            let shown: String = condition.chars().take(40).collect();
            format!("{shown}\n    {}", refused(condition))
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn r158_what_may_not_leave_can_not_be_found_out_by_asking() {
    let open = Policy { content_max_octets: Some(1_000), ..Policy::default() };
    let condition = r#"messageContent.contains("Subject: x")"#;
    assert_eq!(judge_with(condition, &open, NEW), Verdict::Wanted);
    assert!(refused(condition).contains("policy.content_max_octets"));
    // One that was fine when it was made neither goes on asking nor comes to want everything.
    let under = selection(condition).under(&Policy::default());
    assert!(under.compile(&Policy::default()).is_err());
}

#[test]
fn r43_r158_a_role_can_not_find_out_by_asking_what_it_may_not_have() {
    let condition = r#"has(messageContent) && messageContent.contains("Subject: x")"#;
    let with = |content_max_octets| {
        let user = Ceiling { content_max_octets, envelope: false, ..Ceiling::default() };
        let open = Policy { content_max_octets: Some(1_000), envelope: true, ..Policy::default() };
        Policy { user, ..open }.for_role(Role::User)
    };
    let octets = serde_json::from_str::<serde_json::Value>(NEW).unwrap()["messageContent"]
        .as_str()
        .unwrap()
        .len() as u64;
    assert_eq!(judge_with(condition, &with(Some(octets)), NEW), Verdict::Wanted);
    // Content too large for them is as good as none.
    let small = with(Some(octets - 1));
    assert_eq!(judge_with(condition, &small, NEW), Verdict::Unwanted);
    assert_eq!(judge_with("!has(messageContent)", &small, NEW), Verdict::Wanted);
    let error = |condition: &str, policy: &Policy| {
        selection(condition).compile(policy).unwrap_err().to_string()
    };
    assert!(error(condition, &with(None)).contains("(policy.user.content_max_octets)"));
    assert!(error("has(envelope)", &small).contains("(policy.user.envelope)"));
    assert!(error("has(vnd.postbell.raw)", &small).contains("(policy.user.raw)"));
    assert!(error("vnd.postbell.raw.x == 1", &small).contains("(policy.user.raw)"));
}

#[test]
fn what_is_too_large_to_be_looked_at_is_not_looked_at() {
    let big = format!(r#","vnd.example.big":"{}"}}"#, "x".repeat(16_384));
    let large = format!("{}{big}", NEW.strip_suffix('}').unwrap());
    let told = judge_with("vnd.example.big.contains(\"y\")", &Policy::default(), &large);
    let why = "what it looks at has more than 16384 octets";
    assert_eq!(told, Verdict::Unclear(why.to_owned()));
    let list = |values: usize| {
        let list = format!(r#","vnd.example.list2":[{}]}}"#, vec!["1"; values].join(","));
        format!("{}{list}", NEW.strip_suffix('}').unwrap())
    };
    let condition = "1 in vnd.example.list2 && user == \"a\"";
    // The list and the user are values too.
    assert_eq!(judge_with(condition, &Policy::default(), &list(1_022)), Verdict::Wanted);
    let why = "what it looks at has more than 1024 values";
    let told = judge_with(condition, &Policy::default(), &list(1_023));
    assert_eq!(told, Verdict::Unclear(why.to_owned()));
    assert_eq!(judge_with("messageSize > 5", &Policy::default(), &large), Verdict::Wanted);
}

#[test]
fn a_selection_with_a_condition_survives_the_round_trip() {
    let json = serde_json::to_string(&selection("messageSize > 5")).unwrap();
    assert!(json.contains(r#""where":"messageSize > 5""#), "{json}");
    assert_eq!(serde_json::from_str::<Selection>(&json).unwrap(), selection("messageSize > 5"));
    assert!(!serde_json::to_string(&Selection::default()).unwrap().contains("where"));
}

/// Pieces that make conditions now and then, and nonsense often.
fn nonsense() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "user",
        "messageSize",
        "vnd.a.b",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "&&",
        "||",
        "==",
        "!",
        "-",
        "+",
        "1",
        "'x'",
        "\"",
        ".",
        "in",
        "?",
        ":",
        ",",
        "has(",
        ".size()",
        "\\",
        "1u",
        "r'",
        "%",
        "@",
        "`",
        "\n",
        "null",
        "true",
        "é",
        "\u{0}",
        "1e999",
        ".map(x,x)",
        "string(",
        "//",
    ]);
    prop::collection::vec(pieces, 0..80).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn whatever_is_written_is_refused_or_judged_and_never_panics(text in nonsense()) {
        if let Ok((filter, _)) = selection(&text).compile(&Policy::default()) {
            let view = Keys::find(NEW.as_bytes()).unwrap().view(NEW.as_bytes());
            let _verdict = filter.judge(&view, NEW.as_bytes());
        }
    }

    #[test]
    fn figures_compare_as_figures(a in any::<i32>(), b in any::<i32>()) {
        let json = NEW.replace("14000", &a.to_string());
        let told = judge_with(&format!("messageSize < {b}"), &Policy::default(), &json);
        prop_assert_eq!(told == Verdict::Wanted, a < b);
    }
}
