//! Exit codes. They are part of the interface and stay as they are.

/// Everything went well.
pub const SUCCESS: u8 = 0;

/// The work failed: a test failed, events failed or were rejected, the probe was refused.
pub const FAILURE: u8 = 1;

/// The command line is wrong.
pub const USAGE: u8 = 2;

/// The configuration or a script is invalid (`EX_CONFIG` of sysexits.h).
pub const CONFIG: u8 = 78;
