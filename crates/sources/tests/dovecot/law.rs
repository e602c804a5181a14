//! However often the source dies, each line is told once, and each run in order.

use std::collections::BTreeMap;

use postbell_engine::What;
use proptest::prelude::*;

use crate::rig::{Rig, append, line, subscribe};

/// Something that happens while the source runs or doesn't.
#[derive(Clone, Debug)]
enum Step {
    /// A run writes a line: some messages, or one subscription.
    Line { run: u8, messages: u32 },
    /// The file is put aside by somebody, as the source itself does with a large one.
    Turn,
    /// The source runs until it has stored that much, and dies.
    Crash { batches: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_u8..3, 0_u32..4).prop_map(|(run, messages)| Step::Line { run, messages }),
        2 => (0_u8..3, 900_u32..2_100).prop_map(|(run, messages)| Step::Line { run, messages }),
        1 => Just(Step::Turn),
        3 => (0_usize..3).prop_map(|batches| Step::Crash { batches }),
    ];
    proptest::collection::vec(step, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn every_line_is_told_once_and_in_order_over_any_crashes(steps in steps()) {
        let mut rig = Rig::new();
        let mut written: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        let mut seqs = [0_u64; 3];
        let mut turns = 0;
        for step in steps {
            match step {
                Step::Line { run, messages } => {
                    let seq = &mut seqs[usize::from(run)];
                    *seq += 1;
                    let name = char::from(b'a' + run);
                    let of_run = written.entry(run).or_default();
                    if messages == 0 {
                        rig.write(&line(name, *seq, &subscribe(&format!("{run} {seq}"))));
                        of_run.push(format!("{run} {seq}"));
                    } else {
                        let event = append(1).replace("\"1\"", &format!("\"1:{messages}\""));
                        rig.write(&line(name, *seq, &event));
                        of_run.extend((1..=messages).map(|uid| format!("INBOX {uid}")));
                    }
                }
                Step::Turn => {
                    turns += 1;
                    if rig.path("").exists() {
                        let aside = rig.path(&format!(".{turns}"));
                        std::fs::rename(rig.path(""), aside).unwrap();
                    }
                }
                Step::Crash { batches } => rig.crash_after(batches),
            }
        }
        rig.start();
        let count = written.values().map(Vec::len).sum();
        rig.hear(count);
        let mut told: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        for seen in rig.kept.told() {
            let run = seen.actor.session.as_deref().unwrap().as_bytes()[1] - b'a';
            told.entry(run).or_default().push(match seen.what {
                What::Appended(message) => format!("INBOX {}", message.uid),
                What::Subscribed(mailbox) => mailbox.name,
                other => panic!("{other:?}"),
            });
        }
        prop_assert_eq!(told, written);
    }
}
