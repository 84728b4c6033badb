//! Metrics and logging in one place (skeleton).
