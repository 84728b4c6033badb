//! The local Customer.io Track API (skeleton).
