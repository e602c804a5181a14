//! A whole hub in a temporary folder, asked over HTTP and the publishers' socket.

#[cfg(test)]
mod access;
#[cfg(test)]
mod attack;
#[cfg(test)]
mod authorities;
#[cfg(test)]
mod content;
#[cfg(test)]
mod denials;
#[cfg(test)]
mod documented;
#[cfg(test)]
mod forms;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod oidc;
#[cfg(test)]
mod paths;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod publish;
#[cfg(test)]
mod rates;
#[cfg(test)]
mod real;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod socket;
#[cfg(test)]
mod source;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod subscriptions;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod world;
