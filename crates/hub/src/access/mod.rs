//! Who is at the door, and for how long that holds.

mod client;
mod denials;
mod grant;
mod guesses;
mod logins;
mod oidc;
mod places;
mod store;
mod tickets;
mod tokens;

pub(crate) use client::Client;
pub(crate) use denials::{Claim, Denials, DenyError, NewDenial, ShownDenial};
pub(crate) use grant::{Grant, folded, user_of};
pub(crate) use logins::{Logins, Refusal};
pub(crate) use oidc::{Oidc, Refused, check_role};
pub(crate) use places::{Place, Places};
pub(crate) use tokens::{CreateError, Denied, NewToken, ShownToken, TokenRole, Tokens};
