//! The vocabulary of RFC 5423, Internet Message Store Events.
