//! A local Customer.io Track API (v1 and v2): its answers, limits, silent failures, and faults.

pub mod clock;
pub mod operation;
pub mod options;
pub mod validate;
pub mod workspace;
