//! What subscriptions ask for, made ready for use: a condition takes a processor for long, so it is
//! read once, and no request has it read on the threads that everybody waits for.

use std::sync::Arc;

use postbell_engine::{Demand, Filter, InvalidSelection, Policy, Projection, Role, Selection};

use super::Subscriptions;
use super::entry::Entry;
use super::kept::{Kept, Owner};
use crate::access::Grant;
use crate::aside::aside;

/// A selection compiled under the policy of one role.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) selection: Selection,
    role: Role,
    /// What it wants to have made.
    pub(super) demand: Demand,
    /// Or why it can't be delivered as things stand.
    compiled: Result<Compiled, String>,
}

/// Held by every worker that delivers by it.
pub(super) type Compiled = (Arc<Filter>, Arc<Projection>);

impl Ready {
    /// A new one, which may ask for nothing that `policy` keeps.
    fn of_new(
        selection: Selection,
        role: Role,
        policy: &Policy,
    ) -> Result<Arc<Self>, InvalidSelection> {
        #[cfg(test)]
        noted::note(&selection);
        let (filter, projection) = selection.compile(policy)?;
        let demand = Demand::of(&filter, &projection);
        let compiled = Ok((Arc::new(filter), Arc::new(projection)));
        Ok(Arc::new(Self { selection, role, demand, compiled }))
    }

    /// One that was fine when it was made: policy is the operator's to change. One that can't be
    /// delivered as things stand may be again, and goes on where it stood: it wants all its events,
    /// whatever their parameters.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    fn of_kept(selection: Selection, role: Role, policy: &Policy) -> Arc<Self> {
        #[cfg(test)]
        noted::note(&selection);
        let (demand, compiled) = match selection.compile_again(policy) {
            Ok((filter, projection)) => {
                let demand = Demand::of(&filter, &projection);
                (demand, Ok((Arc::new(filter), Arc::new(projection))))
            }
            Err(error) => {
                let whatever = Selection { condition: None, ..selection.clone() };
                let demand = whatever
                    .compile_again(policy)
                    .map(|(filter, projection)| Demand::of(&filter, &projection));
                (demand.unwrap_or_else(|_| Demand::everything()), Err(error.to_string()))
            }
        };
        Arc::new(Self { selection, role, demand, compiled })
    }

    /// What is delivered by, or why nothing can be.
    pub(super) fn compiled(&self) -> Result<Compiled, String> {
        self.compiled.clone()
    }

    /// Whether this is what `selection` comes to for `role`; a hub's policy stays as it began.
    fn is_of(&self, selection: &Selection, role: Role) -> bool {
        self.role == role && self.selection == *selection
    }

    /// Whether it would be taken if it were new: `policy` keeps nothing of it.
    fn is_whole(&self, policy: &Policy) -> bool {
        self.compiled.is_ok() && self.selection.under(policy) == self.selection
    }
}

impl Subscriptions {
    /// A new selection, checked and ready; where a subscription of this name asks for the same, the
    /// way that one is. Waits for what else takes long: for whoever doesn't hold `changing`.
    pub(super) async fn ready_new(
        &self,
        name: &str,
        selection: Selection,
        grant: &Grant,
    ) -> Result<Arc<Ready>, InvalidSelection> {
        let role = grant.principal().role();
        let policy = self.0.policy.for_role(role);
        let own = self.own(Owner::of(grant).as_ref());
        let there = own.iter().find(|entry| entry.name == name).and_then(|entry| entry.ready());
        let is_so = |ready: &Arc<Ready>| ready.is_of(&selection, role) && ready.is_whole(&policy);
        if let Some(ready) = there.filter(is_so) {
            return Ok(ready);
        }
        match selection.condition {
            Some(_) => aside(move || Ready::of_new(selection, role, &policy)).await,
            None => Ready::of_new(selection, role, &policy),
        }
    }

    /// What a subscription asks for, ready for `role`: compiled where it wasn't before.
    pub(super) async fn ready(
        &self,
        entry: &Entry,
        selection: &Selection,
        role: Role,
    ) -> Arc<Ready> {
        if let Some(ready) = entry.ready().filter(|ready| ready.is_of(selection, role)) {
            return ready;
        }
        let (selection, policy) = (selection.clone(), self.0.policy.for_role(role));
        let ready = match selection.condition {
            Some(_) => aside(move || Ready::of_kept(selection, role, &policy)).await,
            None => Ready::of_kept(selection, role, &policy),
        };
        entry.set_ready(Arc::clone(&ready));
        ready
    }

    /// The same as the hub starts, while nobody waits for anything else yet.
    pub(super) fn ready_at_start(&self, entry: &Entry, kept: &Kept) -> Arc<Ready> {
        let role = self.role(kept);
        let ready = Ready::of_kept(kept.selection.clone(), role, &self.0.policy.for_role(role));
        entry.set_ready(Arc::clone(&ready));
        ready
    }

    /// Has one that had ended as the hub started be ready before whoever has it go on holds
    /// `changing`: so nobody's change waits for another's condition. `lent` is whose it will be.
    pub(super) async fn prepare(&self, grant: &Grant, name_or_id: &str, lent: Option<&Owner>) {
        let Some(entry) = self.entry(grant, name_or_id) else { return };
        let mut kept = entry.kept().clone();
        kept.owner = lent.cloned().or(kept.owner);
        self.ready(&entry, &kept.selection, self.role(&kept)).await;
    }

    /// By whose policy is counted what a subscription wants: its owner's, or where their token is
    /// good no more, whoever runs the hub's.
    pub(super) fn role(&self, kept: &Kept) -> Role {
        self.grant(kept).map_or(Role::Admin, |grant| grant.principal().role())
    }
}

#[cfg(test)]
pub(super) mod noted {
    use std::sync::Mutex;
    use std::thread;

    use postbell_engine::Selection;

    use crate::lock::locked;

    /// Conditions as they were compiled, and the threads they were on.
    static COMPILED: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

    pub(super) fn note(selection: &Selection) {
        if let Some(condition) = selection.condition.clone() {
            let thread = thread::current().name().unwrap_or_default().to_owned();
            locked(&COMPILED).push((condition, thread));
        }
    }

    /// On which threads a condition was compiled, in order.
    pub(in super::super) fn compiled(condition: &str) -> Vec<String> {
        let all = locked(&COMPILED);
        let these = all.iter().filter(|(text, _)| text == condition);
        these.map(|(_, thread)| thread.clone()).collect()
    }
}
