//! Durations and sizes as people write them: `"60s"`, `"1GiB"`, and a word for "no limit".

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

/// Reads `"250ms"`, `"60s"`, `"5m"`, `"2h"` or `"30d"`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// Writes a duration with the largest unit that leaves it whole.
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (size, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if millis >= size && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") }
}

/// Reads `"512"`, `"64KiB"`, `"16MiB"`, `"1GiB"`, `"2TiB"`, or the decimal `"1GB"`.
pub(crate) fn parse_octets(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let size = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(size)
}

/// Writes a size with the largest binary unit that leaves it whole.
pub(crate) fn show_octets(octets: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let size = 1_u64 << shift;
        if octets >= size && octets.is_multiple_of(size) {
            return format!("{}{unit}", octets / size);
        }
    }
    format!("{octets}B")
}

/// Reads an address, or a network of them such as `"10.0.0.0/8"`; not of all there are, of IPv4 or of
/// both. One of IPv4 within IPv6 is one of IPv4, as addresses are compared.
pub(crate) fn parse_network(text: &str) -> Option<IpNet> {
    let alone = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    let network = match alone.ok().or_else(|| text.parse().ok())? {
        IpNet::V6(network) => match network.addr().to_ipv4_mapped() {
            Some(address) => {
                let length = network.prefix_len().checked_sub(MAPPED_LENGTH)?;
                Ipv4Net::new(address, length).ok()?.into()
            }
            None if network.contains(&Ipv4Addr::UNSPECIFIED.to_ipv6_mapped()) => return None,
            None => IpNet::V6(network),
        },
        network => network,
    };
    Some(network).filter(|network| network.prefix_len() > 0)
}

/// Of how many bits all IPv4 addresses within IPv6 begin alike (RFC 4291, section 2.5.5.2).
const MAPPED_LENGTH: u8 = 96;

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

/// A named serde form: a text, read and written by the two functions given.
macro_rules! text_form {
    ($(#[$doc:meta])* $name:ident, $type:ty, $expected:literal, $parse:expr, $show:expr) => {
        $(#[$doc])*
        pub(crate) mod $name {
            use super::*;

            pub(crate) fn serialize<S: serde::Serializer>(
                value: &$type,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                let show: fn($type) -> String = $show;
                serializer.serialize_str(&show(*value))
            }

            pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$type, D::Error> {
                struct Reader;
                impl serde::de::Visitor<'_> for Reader {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        let parse: fn(&str) -> Option<$type> = $parse;
                        parse(text).ok_or_else(|| {
                            E::invalid_value(serde::de::Unexpected::Str(text), &self)
                        })
                    }
                }
                deserializer.deserialize_str(Reader)
            }
        }
    };
}

text_form!(
    /// A duration.
    duration,
    Duration,
    "a duration",
    parse_duration,
    show_duration
);
text_form!(
    /// A duration, or the word `never` for none.
    duration_or_never,
    Option<Duration>,
    "a duration or \"never\"",
    |text| if text == "never" { Some(None) } else { parse_duration(text).map(Some) },
    |value| value.map_or_else(|| "never".to_owned(), show_duration)
);
text_form!(
    /// A size.
    octets,
    u64,
    "a size",
    parse_octets,
    show_octets
);
text_form!(
    /// A size, or the word `never` for none.
    octets_or_never,
    Option<u64>,
    "a size or \"never\"",
    |text| if text == "never" { Some(None) } else { parse_octets(text).map(Some) },
    |value| value.map_or_else(|| "never".to_owned(), show_octets)
);
text_form!(
    /// An address and port, or nothing.
    address_or_none,
    Option<SocketAddr>,
    "an address and port, or empty",
    |text| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) },
    |value| value.map_or_else(String::new, |address| address.to_string())
);

/// How many a minute, as a number, or the word `unlimited` for as many as come.
pub(crate) mod rate_or_unlimited {
    use std::fmt;

    use serde::de::{Error, Unexpected, Visitor};
    use serde::{Deserializer, Serializer};

    use super::NonZeroU32;

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<NonZeroU32>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(rate) => serializer.serialize_u32(rate.get()),
            None => serializer.serialize_str(UNLIMITED),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<NonZeroU32>, D::Error> {
        deserializer.deserialize_any(Reader)
    }

    struct Reader;

    impl Visitor<'_> for Reader {
        type Value = Option<NonZeroU32>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a whole number from 1 to {}, or \"{UNLIMITED}\"", u32::MAX)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
            let rate = u32::try_from(number).ok().and_then(NonZeroU32::new);
            rate.map(Some).ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            match text {
                UNLIMITED => Ok(None),
                _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
            }
        }
    }

    const UNLIMITED: &str = "unlimited";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_reads_back_as_it_was_written() {
        for text in ["0s", "250ms", "60s", "90s", "5m", "2h", "30d"] {
            let value = parse_duration(text).unwrap();
            assert_eq!(parse_duration(&show_duration(value)), Some(value), "{text}");
        }
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
        assert_eq!(show_duration(Duration::from_secs(3600)), "1h");
    }

    #[test]
    fn a_size_reads_back_as_it_was_written() {
        for text in ["0", "1B", "64KiB", "16MiB", "1GiB", "3TiB", "1GB"] {
            let value = parse_octets(text).unwrap();
            assert_eq!(parse_octets(&show_octets(value)), Some(value), "{text}");
        }
        assert_eq!(show_octets(16 << 20), "16MiB");
    }

    #[test]
    fn a_network_is_an_address_or_many_and_not_all() {
        let read = |text| parse_network(text).map(|network| network.to_string());
        assert_eq!(read("127.0.0.1").as_deref(), Some("127.0.0.1/32"));
        assert_eq!(read("::ffff:127.0.0.1").as_deref(), Some("127.0.0.1/32"));
        assert_eq!(read("2001:db8::/32").as_deref(), Some("2001:db8::/32"));
        assert_eq!(read("::ffff:10.0.0.0/104").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(read("::ffff:10.0.0.1/128").as_deref(), Some("10.0.0.1/32"));
        for wrong in ["", "localhost", "0.0.0.0/0", "::/0", "10.0.0.0/33", "10.0.0/8", "*"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        for all_of_ipv4 in ["::ffff:0.0.0.0/96", "::ffff:0:0/90", "::/8"] {
            assert_eq!(read(all_of_ipv4), None, "{all_of_ipv4}");
        }
    }

    #[test]
    fn nonsense_and_overflow_are_no_values() {
        for text in ["", "s", "5 parsecs", "-1s", "1.5h", "99999999999999999999s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["", "KiB", "lots", "99999999999TiB", "1kib"] {
            assert_eq!(parse_octets(text), None, "{text}");
        }
    }
}
