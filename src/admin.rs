//! The admin endpoints (skeleton).
