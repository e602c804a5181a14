//! Names of our own events that more than one decision goes by.

/// What says that something can't be told.
pub const GAP: &str = "vnd.postbell.Gap";

/// What says that a subscription was disabled.
pub const DISABLED: &str = "vnd.postbell.DeliveryDisabled";
