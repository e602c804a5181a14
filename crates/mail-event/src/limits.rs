//! How large things may be, and why.

/// Octets of one event as JSON. Holds a 10 MiB message as base64 with room to spare, and bounds
/// what one event can cost a reader.
pub const EVENT_OCTETS_MAX: usize = 16 * 1024 * 1024;

/// Octets of an event's or parameter's name. Longer names fit no header, index or topic level.
pub const NAME_OCTETS_MAX: usize = 128;

/// Octets of a URI. A mailbox name of 1,000 characters, percent-encoded, fits thrice over.
pub const URI_OCTETS_MAX: usize = 16 * 1024;

/// Octets of a short text such as `user` or `service`.
pub const TEXT_OCTETS_MAX: usize = 4 * 1024;

/// How deep a `vnd.*` value may nest, so that reading it can't exhaust the stack.
pub const DEPTH_MAX: usize = 64;

/// Tags of one event.
pub const TAGS_MAX: usize = 64;

/// Flags and keywords in one list. IMAP servers stop at a few dozen keywords per mailbox.
pub const FLAGS_MAX: usize = 256;

/// Parameters outside the registry on one event.
pub const VENDOR_PARAMETERS_MAX: usize = 128;

/// Ranges of a UID set; every second one of a million messages.
pub const RANGES_MAX: usize = 500_000;
