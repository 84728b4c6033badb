//! The buffer in memory (skeleton).
