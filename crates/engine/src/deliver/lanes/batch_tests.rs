//! Lanes in batches.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::{Next, Outcome, Schedule};
use super::*;

const FAILED: Outcome = Outcome::Failed { retry_after: None };

fn lanes(cursor: u64, limits: BatchLimits, side_by_side: usize, window: usize) -> Lanes {
    let schedule = Schedule::new([Duration::from_millis(10), Duration::from_millis(20)]);
    Lanes::new(schedule, cursor, None, side_by_side, window).in_batches(limits)
}

fn of(events: usize) -> BatchLimits {
    BatchLimits { events, octets: 100, delay: Duration::from_millis(50) }
}

fn push(lanes: &mut Lanes, all: &[(u64, &str)]) {
    for (seq, lane) in all {
        assert!(lanes.push(*seq, lane.as_bytes(), 10, Moment(0)));
    }
}

/// What is attempted next at that time, and whether it was put together for it.
fn started(lanes: &mut Lanes, now: u64) -> Option<(Vec<u64>, bool)> {
    let attempt = lanes.start(Moment(now))?;
    let others = lanes.others(attempt.seq).iter().copied();
    Some(([attempt.seq].into_iter().chain(others).collect(), attempt.is_new))
}

#[test]
fn a_batch_is_what_has_gathered_of_lanes_in_which_nothing_is_under_way() {
    let mut lanes = lanes(0, of(3), 4, 20);
    push(&mut lanes, &[(1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "c")]);
    assert_eq!(started(&mut lanes, 0), Some((vec![1, 2, 3], true)));
    assert_eq!(started(&mut lanes, 0), None, "5 waits for more, and 4 for 1 and 3");
    push(&mut lanes, &[(6, "c"), (7, "d")]);
    assert_eq!(started(&mut lanes, 0), Some((vec![5, 6, 7], true)));
    assert_eq!(lanes.conclude(1, Outcome::Accepted, Moment(0), 0), Next::Done);
    assert_eq!((lanes.cursor(), lanes.told()), (3, Some(3)));
    assert_eq!(started(&mut lanes, 49), None);
    assert_eq!(lanes.next_due(), Some(Moment(50)));
    assert_eq!(started(&mut lanes, 50), Some((vec![4], true)));
}

#[test]
fn a_batch_is_tried_again_as_it_was_whatever_comes_meanwhile() {
    let mut lanes = lanes(0, of(2), 4, 20);
    push(&mut lanes, &[(1, "a"), (2, "b")]);
    assert_eq!(started(&mut lanes, 0), Some((vec![1, 2], true)));
    assert_eq!(lanes.conclude(1, FAILED, Moment(0), 0), Next::TryAt(Moment(10)));
    push(&mut lanes, &[(3, "a"), (4, "b")]);
    assert_eq!(started(&mut lanes, 9), None);
    assert_eq!(started(&mut lanes, 10), Some((vec![1, 2], false)));
    assert_eq!(lanes.conclude(1, FAILED, Moment(10), 0), Next::TryAt(Moment(30)));
    assert_eq!(started(&mut lanes, 30), Some((vec![1, 2], false)));
    assert_eq!(lanes.conclude(1, FAILED, Moment(30), 0), Next::GiveUp);
    assert_eq!(started(&mut lanes, 30), Some((vec![3, 4], true)));
}

#[test]
fn octets_bound_a_batch_and_a_single_delivery_may_have_more() {
    let mut lanes = lanes(0, of(9), 4, 20);
    for (seq, octets) in [(1, 60), (2, 60), (3, 300), (4, 1)] {
        assert!(lanes.push(seq, b"a", octets, Moment(0)));
    }
    for batch in [vec![1], vec![2], vec![3]] {
        assert_eq!(started(&mut lanes, 0), Some((batch.clone(), true)));
        assert_eq!(lanes.conclude(batch[0], Outcome::Accepted, Moment(0), 0), Next::Done);
    }
    assert_eq!(started(&mut lanes, 0), None);
}

#[test]
fn what_is_cut_off_a_new_batch_goes_with_a_later_one() {
    let mut lanes = lanes(0, of(4), 4, 20);
    push(&mut lanes, &[(1, "a"), (2, "b"), (3, "a"), (4, "c")]);
    assert_eq!(started(&mut lanes, 0), Some((vec![1, 2, 3, 4], true)));
    lanes.cut(1, 2);
    assert_eq!(lanes.others(1), [2]);
    assert_eq!(started(&mut lanes, 50), Some((vec![4], true)), "3 is behind 1");
    assert_eq!(lanes.conclude(1, Outcome::Accepted, Moment(50), 0), Next::Done);
    assert_eq!(started(&mut lanes, 50), Some((vec![3], true)));
}

#[test]
fn what_was_frozen_before_a_restart_goes_together_again_without_what_is_not_wanted_any_more() {
    let mut lanes = lanes(1, of(9), 4, 20);
    lanes.expect(&[1, 3, 5]);
    lanes.expect(&[2, 4, 6]);
    push(&mut lanes, &[(3, "a")]);
    assert_eq!(started(&mut lanes, 50), None, "5 is to come");
    push(&mut lanes, &[(4, "b"), (5, "a")]);
    assert_eq!(started(&mut lanes, 50), Some((vec![3, 5], false)));
    assert_eq!(started(&mut lanes, 50), None, "6 is to come");
    lanes.pass(6);
    assert_eq!(started(&mut lanes, 50), Some((vec![4], false)), "and neither 2 nor 6 came");
}

#[test]
fn a_batch_that_can_never_be_whole_again_holds_nothing_up() {
    // What stands between two of its deliveries now was not wanted then.
    let mut between = lanes(0, of(9), 4, 20);
    between.expect(&[1, 3]);
    push(&mut between, &[(1, "a"), (2, "a"), (3, "a")]);
    assert_eq!(started(&mut between, 50), Some((vec![1], false)));
    assert_eq!(between.conclude(1, Outcome::Accepted, Moment(50), 0), Next::Done);
    assert_eq!(started(&mut between, 50), Some((vec![2, 3], true)));
    // It is larger than a window now.
    let mut large = lanes(0, of(9), 4, 2);
    large.expect(&[1, 2, 3]);
    push(&mut large, &[(1, "a")]);
    assert!(large.is_stuck() && large.has_room());
    // More is wanted between its deliveries now than there is room for, and is delivered first.
    let mut wide = lanes(0, of(1), 4, 3);
    wide.expect(&[1, 9]);
    push(&mut wide, &[(1, "a"), (2, "b"), (3, "c")]);
    assert!(!wide.is_stuck() && !wide.has_room());
    for seq in [2, 3] {
        assert_eq!(started(&mut wide, 0), Some((vec![seq], true)));
        assert_eq!(wide.conclude(seq, Outcome::Accepted, Moment(0), 0), Next::Done);
    }
    assert_eq!(started(&mut wide, 0), Some((vec![1], true)));
    push(&mut large, &[(2, "b")]);
    assert_eq!(started(&mut large, 50), Some((vec![1, 2], true)));
}

#[derive(Clone, Debug)]
enum Step {
    Append(u8, usize),
    Take(usize),
    Start,
    End(usize, bool),
    Wait(u64),
    /// Killed, with the cursor as it was so many steps ago, and some records wanted no more.
    Restart(usize, Option<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..4, 0_usize..40).prop_map(|(lane, octets)| Step::Append(lane, octets)),
        4 => (1_usize..6).prop_map(Step::Take),
        6 => Just(Step::Start),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, fine)| Step::End(which, fine)),
        1 => (1_u64..60).prop_map(Step::Wait),
        1 => (0_usize..9, prop::option::weighted(0.3, any::<usize>()))
            .prop_map(|(back, gone)| Step::Restart(back, gone)),
    ]
}

proptest! {
    /// Frozen before the first attempt and the same ever after, over restarts too; in order in
    /// each lane; nothing lost, and nothing in two batches.
    #[test]
    fn batches_stay_what_they_were_and_every_lane_in_order(
        steps in prop::collection::vec(step(), 0..250),
        events in 1_usize..6, side_by_side in 1_usize..4, window in 1_usize..12,
    ) {
        let limits = of(events);
        let mut lanes = lanes(0, limits, side_by_side, window);
        // Lane and octets of record n at n - 1, and whether it is wanted.
        let mut all: Vec<(u8, usize, bool)> = Vec::new();
        let mut handed = 0;
        let (mut done, mut ever) = (BTreeSet::new(), BTreeSet::new());
        let mut ended: Vec<(u64, u64)> = Vec::new();
        let (mut frozen, mut gone): (Vec<Vec<u64>>, BTreeSet<u64>) = (Vec::new(), BTreeSet::new());
        let (mut now, mut under_way, mut cursors) = (0, Vec::<Vec<u64>>::new(), vec![0]);
        let steps = steps.into_iter().chain((0..1_600).map(|at| match at % 4 {
            0 => Step::Take(5),
            1 => Step::Start,
            2 => Step::End(0, at % 3 > 0),
            _ => Step::Wait(30),
        }));
        for step in steps {
            match step {
                Step::Append(lane, octets) => all.push((lane, octets, true)),
                Step::Take(count) => for _ in 0..count {
                    let Some((lane, octets, wanted)) = all.get(handed).copied() else { break };
                    let seq = handed as u64 + 1;
                    if !wanted {
                        lanes.pass(seq);
                    } else if lanes.has_room() {
                        prop_assert!(lanes.push(seq, &[lane], octets, Moment(now)));
                    } else {
                        break;
                    }
                    handed += 1;
                },
                Step::Start => {
                    let is_ready = lanes.has_ready(Moment(now));
                    let Some((batch, is_new)) = started(&mut lanes, now) else {
                        prop_assert!(!is_ready);
                        continue;
                    };
                    prop_assert!(is_ready && batch.is_sorted() && batch.len() <= events);
                    let lane = |seq: u64| all[usize::try_from(seq - 1).unwrap()].0;
                    for seq in &batch {
                        // All before it in its lane is done, or goes along.
                        let before = (1..*seq).filter(|one| lane(*one) == lane(*seq));
                        for one in before.filter(|one| !gone.contains(one)) {
                            prop_assert!(done.contains(&one) || batch.contains(&one));
                        }
                    }
                    if is_new {
                        let octets = batch.iter().map(|seq| all[usize::try_from(seq - 1).unwrap()].1);
                        prop_assert!(batch.len() == 1 || octets.sum::<usize>() <= limits.octets);
                        prop_assert!(batch.iter().all(|seq| !frozen.concat().contains(seq)));
                        frozen.push(batch.clone());
                    } else {
                        let left = |was: &Vec<u64>| -> Vec<u64> {
                            was.iter().copied().filter(|seq| !gone.contains(seq)).collect()
                        };
                        prop_assert!(
                            frozen.iter().any(|was| left(was) == batch || *was == batch),
                            "{:?} was never frozen: {:?}", batch, frozen
                        );
                    }
                    under_way.push(batch);
                    prop_assert!(under_way.len() <= side_by_side);
                }
                Step::End(which, fine) if !under_way.is_empty() => {
                    let batch = under_way.remove(which % under_way.len());
                    let outcome = if fine { Outcome::Accepted } else { FAILED };
                    let next = lanes.conclude(batch[0], outcome, Moment(now), 0);
                    if !matches!(next, Next::TryAt(_)) {
                        ended.push((batch[0], batch[batch.len() - 1]));
                        ever.extend(batch.iter().copied());
                        done.extend(batch);
                    }
                }
                Step::End(..) => {}
                Step::Wait(millis) => now += millis,
                Step::Restart(back, which) => {
                    let cursor = cursors[cursors.len().saturating_sub(1 + back)];
                    if let Some(which) = which.filter(|_| !all.is_empty()) {
                        let at = which % all.len();
                        all[at].2 = false;
                        gone.insert(at as u64 + 1);
                    }
                    under_way.clear();
                    ended.clear();
                    cursors.truncate(cursors.len().saturating_sub(back).max(1));
                    done.retain(|seq| *seq <= cursor);
                    lanes = self::lanes(cursor, limits, side_by_side, window);
                    for was in &frozen {
                        lanes.expect(was);
                    }
                    handed = usize::try_from(cursor).unwrap();
                }
            }
            let open = (1..=handed as u64).find(|seq| !gone.contains(seq) && !done.contains(seq));
            let mut cursor = open.map_or(handed as u64, |seq| seq - 1);
            while let Some((first, _)) =
                ended.iter().find(|(first, last)| (*first..*last).contains(&cursor))
            {
                cursor = first - 1;
            }
            prop_assert_eq!(lanes.cursor(), cursor);
            cursors.push(lanes.cursor());
        }
        prop_assert!(lanes.is_idle() && handed == all.len(), "everything ends at last");
        let wanted = (1..=all.len() as u64).filter(|seq| !gone.contains(seq));
        prop_assert!(wanted.into_iter().all(|seq| ever.contains(&seq)), "nothing is lost");
    }
}

#[test]
fn what_may_have_to_wait_goes_into_no_batch_with_what_does_not() {
    let mut lanes = lanes(0, of(3), 4, 20);
    for (seq, lane) in [(1, "a"), (2, "x"), (3, "b"), (4, "y"), (5, "a"), (6, "x"), (7, "b")] {
        let (lane, now) = (lane.as_bytes(), Moment(0));
        let is_apart = lane >= b"x".as_slice();
        assert!(if is_apart {
            lanes.push_apart(seq, lane, 1, now)
        } else {
            lanes.push(seq, lane, 1, now)
        });
    }
    assert_eq!(started(&mut lanes, 0), Some((vec![1, 3, 5], true)));
    assert_eq!(started(&mut lanes, 50), Some((vec![2, 4, 6], true)));
    assert_eq!(lanes.put_back(2, Moment(50), Duration::from_secs(10)), Next::TryAt(Moment(10_050)));
    assert_eq!(lanes.conclude(1, Outcome::Accepted, Moment(50), 0), Next::Done);
    assert_eq!(started(&mut lanes, 51), Some((vec![7], true)), "it doesn't wait for 2, 4 and 6");
}
