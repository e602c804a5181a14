//! Whom a request is from, as far as anybody can say.

use std::net::IpAddr;

/// Whoever asks, by where that comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Client {
    /// Whoever is at this address.
    At(IpAddr),
    /// Somebody behind a proxy on this machine that nobody named, which asks from this address: each of
    /// its clients may be anybody, and none is this machine's own program.
    Behind(IpAddr),
}

impl Client {
    /// The address it comes from: somebody's own, or the proxy's.
    pub(crate) fn address(self) -> IpAddr {
        match self {
            Self::At(address) | Self::Behind(address) => address,
        }
    }
}
