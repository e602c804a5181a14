//! Lanes, one delivery at a time.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

const FAILED: Outcome = Outcome::Failed { retry_after: None };

fn lanes(side_by_side: usize, window: usize) -> Lanes {
    let schedule = Schedule::new([Duration::from_millis(10), Duration::from_millis(20)]);
    Lanes::new(schedule, 0, None, side_by_side, window)
}

fn started(lanes: &mut Lanes, now: u64) -> Vec<u64> {
    std::iter::from_fn(|| lanes.start(Moment(now)).map(|attempt| attempt.seq)).collect()
}

#[test]
fn one_mailbox_goes_one_by_one_and_others_beside_it() {
    let mut lanes = lanes(2, 10);
    for (seq, lane) in [(1, b"a"), (2, b"a"), (3, b"b"), (4, b"c")] {
        lanes.push(seq, lane, 1, Moment(0));
    }
    assert_eq!(started(&mut lanes, 0), [1, 3]);
    assert_eq!(lanes.conclude(3, Outcome::Accepted, Moment(1), 0), Next::Done);
    assert_eq!(lanes.cursor(), 0);
    assert_eq!(started(&mut lanes, 1), [4]);
    assert_eq!(lanes.conclude(1, Outcome::Accepted, Moment(1), 0), Next::Done);
    assert_eq!((lanes.cursor(), lanes.told()), (1, Some(1)));
    assert_eq!(started(&mut lanes, 1), [2]);
}

#[test]
fn a_lane_that_waits_holds_up_only_itself_until_the_window_is_full() {
    let mut lanes = lanes(4, 3);
    lanes.push(1, b"a", 1, Moment(0));
    assert_eq!(started(&mut lanes, 0), [1]);
    assert_eq!(lanes.conclude(1, FAILED, Moment(0), 0), Next::TryAt(Moment(10)));
    for seq in [2, 3] {
        assert!(lanes.has_room());
        lanes.push(seq, b"b", 1, Moment(0));
        assert_eq!(started(&mut lanes, 1), [seq]);
        assert_eq!(lanes.conclude(seq, Outcome::Accepted, Moment(1), 0), Next::Done);
    }
    assert!(!lanes.has_room());
    assert_eq!(lanes.next_due(), Some(Moment(10)));
    assert!(started(&mut lanes, 9).is_empty());
    assert_eq!(started(&mut lanes, 10), [1]);
    assert_eq!(lanes.conclude(1, FAILED, Moment(10), 0), Next::TryAt(Moment(30)));
    assert_eq!(started(&mut lanes, 30), [1]);
    assert_eq!(lanes.conclude(1, FAILED, Moment(30), 0), Next::GiveUp);
    assert_eq!((lanes.cursor(), lanes.told(), lanes.is_idle()), (3, Some(3), true));
}

#[test]
fn what_is_put_back_was_not_attempted_and_keeps_its_lane_waiting() {
    let mut lanes = lanes(1, 10);
    for seq in [1, 2] {
        lanes.push(seq, b"a", 1, Moment(0));
    }
    lanes.push(3, b"b", 1, Moment(0));
    for now in [0, 10, 20, 30] {
        let attempt = lanes.start(Moment(now)).unwrap();
        assert_eq!((attempt.seq, attempt.number), (1, 1), "however often");
        let next = lanes.put_back(1, Moment(now), Duration::from_millis(10));
        assert_eq!(next, Next::TryAt(Moment(now + 10)));
        if now == 0 {
            assert_eq!(lanes.start(Moment(now)).map(|one| one.seq), Some(3));
            assert_eq!(lanes.conclude(3, Outcome::Accepted, Moment(now), 0), Next::Done);
        }
    }
    assert_eq!((lanes.cursor(), lanes.next_due()), (0, Some(Moment(40))));
}

#[test]
fn while_as_many_are_under_way_as_may_be_nothing_is_due() {
    let mut lanes = lanes(1, 3);
    lanes.push(1, b"a", 1, Moment(0));
    lanes.push(2, b"b", 1, Moment(0));
    assert_eq!(started(&mut lanes, 0), [1]);
    assert_eq!(lanes.conclude(1, FAILED, Moment(0), 0), Next::TryAt(Moment(10)));
    assert_eq!(started(&mut lanes, 1), [2]);
    assert_eq!(lanes.next_due(), None);
    assert_eq!(lanes.conclude(2, Outcome::Accepted, Moment(20), 0), Next::Done);
    assert_eq!(lanes.next_due(), Some(Moment(10)));
    assert_eq!(started(&mut lanes, 20), [1]);
}

#[test]
fn what_is_not_wanted_is_passed_and_does_not_break_the_chain() {
    let mut lanes = Lanes::new(Schedule::new([]), 4, Some(2), 1, 4);
    lanes.pass(5);
    assert_eq!((lanes.cursor(), lanes.told()), (5, Some(2)));
    lanes.push(6, b"a", 1, Moment(0));
    lanes.pass(9);
    lanes.push(9, b"again", 1, Moment(0));
    assert_eq!(lanes.cursor(), 5);
    let attempt = lanes.start(Moment(0)).unwrap();
    assert_eq!(attempt, Attempt { seq: 6, prev_seq: Some(2), number: 1, is_new: true });
    assert_eq!(lanes.conclude(6, Outcome::Accepted, Moment(0), 0), Next::Done);
    assert_eq!((lanes.cursor(), lanes.told()), (9, Some(6)));
}

#[derive(Clone, Debug)]
enum Step {
    Pass,
    Push(u8),
    Start,
    End(usize, bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Pass),
        4 => (0_u8..4).prop_map(Step::Push),
        4 => Just(Step::Start),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, fine)| Step::End(which, fine)),
        1 => (1_u64..15).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn order_limits_and_cursor_hold_whatever_happens(
        steps in prop::collection::vec(step(), 0..200),
        side_by_side in 1_usize..4,
        window in 1_usize..12,
    ) {
        let mut lanes = lanes(side_by_side, window);
        // (number, lane, done), in the order handed in.
        let mut all: Vec<(u64, u8, bool)> = Vec::new();
        let (mut now, mut last, mut under_way) = (0, 0, Vec::new());
        let steps = steps.into_iter().chain((0..2_000).map(|at| match at % 3 {
            0 => Step::Start,
            1 => Step::End(0, at % 2 == 1),
            _ => Step::Wait(5),
        }));
        for step in steps {
            match step {
                Step::Pass => {
                    last += 1;
                    lanes.pass(last);
                }
                Step::Push(lane) if lanes.has_room() => {
                    last += 1;
                    lanes.push(last, &[lane], 1, Moment(now));
                    all.push((last, lane, false));
                }
                Step::Push(_) => {}
                Step::Start => match (lanes.has_ready(Moment(now)), lanes.start(Moment(now))) {
                    (true, Some(attempt)) => {
                        let at = all.iter().position(|one| one.0 == attempt.seq).unwrap();
                        let lane = all[at].1;
                        prop_assert!(all[..at].iter().all(|one| one.1 != lane || one.2));
                        prop_assert!(!all[at].2 && !under_way.contains(&attempt.seq));
                        let before = at.checked_sub(1).map(|before| all[before].0);
                        prop_assert_eq!(attempt.prev_seq, before);
                        under_way.push(attempt.seq);
                    }
                    (has_ready, Some(_)) => prop_assert!(has_ready),
                    (has_ready, None) => {
                        prop_assert!(!has_ready);
                        // Only what is under way or waits may hold anything up.
                        let idle = all.iter().filter(|one| !one.2).count() == 0;
                        prop_assert!(
                            idle || !under_way.is_empty() || lanes.next_due() > Some(Moment(now))
                        );
                    }
                },
                Step::End(which, fine) if !under_way.is_empty() => {
                    let seq = under_way.remove(which % under_way.len());
                    let outcome = if fine { Outcome::Accepted } else { FAILED };
                    let next = lanes.conclude(seq, outcome, Moment(now), 0);
                    if !matches!(next, Next::TryAt(_)) {
                        all.iter_mut().find(|one| one.0 == seq).unwrap().2 = true;
                    }
                }
                Step::End(..) => {}
                Step::Wait(millis) => now += millis,
            }
            let open = all.iter().find(|one| !one.2).map(|one| one.0);
            let cursor = open.map_or(last, |seq| seq - 1);
            prop_assert_eq!(lanes.cursor(), cursor);
            let told = all.iter().rfind(|one| one.0 <= cursor).map(|one| one.0);
            prop_assert_eq!(lanes.told(), told);
            prop_assert!(under_way.len() <= side_by_side);
            let held = all.iter().filter(|one| one.0 > cursor).count();
            prop_assert!(held <= window);
        }
        prop_assert!(lanes.is_idle(), "everything ends at last");
    }
}
