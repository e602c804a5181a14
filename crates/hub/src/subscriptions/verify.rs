//! The handshake before the first delivery: a receiver that hasn't agreed is sent no event.

use std::time::{Duration, SystemTime};

use postbell_engine::{Delivery, Moment, Next};
use postbell_sinks::webhook::AnswerFrom;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::SubscriptionState;
use super::carrier::Carrier;
use super::entry::Stop;
use super::kept::Handshake;
use super::worker::{Job, dice};
use crate::lock::locked;

/// Waits until the receiver agrees to be delivered to, where it has yet to; `false` where it is not
/// to be delivered to, because the subscription is stopped or has ended.
pub(super) async fn passed(job: &Job, told: &mut watch::Receiver<Stop>) -> bool {
    if job.entry.kept().state != SubscriptionState::Unverified {
        return true;
    }
    let asked = tokio::select! {
        biased;
        // Whoever could say it being gone is as good as being told.
        _ = told.wait_for(|stop| *stop != Stop::No) => return false,
        () = job.grant.ended() => {
            let over = job.entry.kept().over();
            Err(over.to_owned())
        }
        asked = ask(job) => asked,
    };
    let name = job.entry.label();
    let has_passed = asked.is_ok();
    if let Ok(handshake) = &asked {
        locked(&job.gate).pace.set_requests(handshake.per_minute);
    }
    {
        let mut kept = job.entry.kept();
        match asked {
            Ok(handshake) => {
                info!(subscription = %name, "the receiver agrees to be delivered to");
                kept.state = SubscriptionState::Active;
                kept.handshake = Some(handshake);
            }
            Err(why) => {
                warn!(subscription = %name, %why, "the receiver can't be delivered to: the subscription has ended");
                kept.end(why);
            }
        }
    }
    job.entry.live.set_trouble(None);
    job.entry.live.set_last_error(None);
    // What can't be kept is asked again after a restart.
    job.keep().await;
    has_passed
}

/// Asks until it is agreed; why it is asked no more.
async fn ask(job: &Job) -> Result<Handshake, String> {
    let Carrier::Webhook(webhook) = &job.carrier else {
        return Ok(Handshake { passed: true, per_minute: None });
    };
    let (schedule, began) = (&job.context.handshake, Instant::now());
    let mut question = Delivery::default();
    loop {
        let agreement = webhook.ask(job.context.store.host(), SystemTime::now()).await;
        webhook.sweep();
        let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let reason = agreement.answer.reason;
        match question.conclude(schedule, agreement.answer.outcome, Moment(now), dice()) {
            Next::Done => {
                return Ok(Handshake { passed: true, per_minute: agreement.per_minute });
            }
            Next::TryAt(Moment(at)) => {
                let told = match agreement.from {
                    AnswerFrom::Nobody => "it could not be asked",
                    AnswerFrom::Receiver => "it answered",
                };
                let told = format!("the receiver has yet to agree; {told}: {reason}");
                job.entry.live.set_trouble(Some(told));
                job.entry.live.set_last_error(Some(reason));
                tokio::time::sleep_until(began + Duration::from_millis(at)).await;
            }
            Next::GiveUp => {
                return Err(format!("the receiver did not agree to be delivered to: {reason}"));
            }
            Next::End => return Err(format!("the receiver answered {reason}")),
        }
    }
}
